"""Which products of a graph are given to oneDNN, and that forward and backward still give the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn
from torch._inductor.utils import fresh_cache
from torch.fx.experimental.proxy_tensor import make_fx

import tzwc
from tests.support.dynamo_testing import through_dynamo
from tests.support.watch_twins import BUILD_SECONDS
from tzwc.autotune.matmul_choice import ATEN, ONEDNN
from tzwc.dynamo import compiled_graph
from tzwc.ir.remarks import RemarkKind
from tzwc.lowering import matmul_pass
from tzwc.lowering.matmul_pass import ProductPass
from tzwc.models.layers import pointwise
from tzwc.ops.matmul import available, obstacle

pytestmark = pytest.mark.usefixtures("quiet")

aten = torch.ops.aten
big = torch.randn(128, 128)


@pytest.fixture(autouse=True)
def _faster(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take oneDNN's to be the faster."""
    if not available(BUILD_SECONDS):
        pytest.skip(f"no products by oneDNN: {obstacle()}")
    monkeypatch.setattr(matmul_pass, "choose", lambda *_: {ONEDNN: 1e-3, ATEN: 2e-3})


def rewritten(function: Callable[..., Tensor], *inputs: Tensor, tune: Any = "measure", symbolic: bool = False) -> Any:
    """How many products of each kind are in ``function`` after the pass, what was said, and the new function."""
    said: list[tuple[RemarkKind, str]] = []
    module = make_fx(function, tracing_mode="symbolic" if symbolic else "fake")(*inputs)
    ProductPass(tune, lambda kind, reason, _: said.append((kind, reason)))(module.graph)
    module.graph.lint()
    module.recompile()
    targets = [node.target for node in module.graph.nodes]
    ours = targets.count(torch.ops.tzwc.product.default)
    theirs = targets.count(aten.mm.default) + targets.count(aten.bmm.default)
    return ours, theirs, said, module


@pytest.mark.parametrize(
    ("function", "inputs"),
    [
        (torch.mm, (big, big)),
        (torch.mm, (big.mT, big[:, :64])),
        (torch.bmm, (torch.randn(4, 64, 64), torch.randn(4, 64, 64))),
        (torch.matmul, (big.expand(4, 128, 128), torch.randn(4, 128, 32))),
        (torch.matmul, (torch.randn(4, 32, 128), big.expand(4, 128, 128))),
        (torch.matmul, (big.expand(4, 128, 128), big.expand(4, 128, 128))),
        (torch.bmm, (torch.randn(1, 128, 64), torch.randn(1, 64, 128))),
        (lambda a, b: torch.addmm(b[0], a, b), (big, big)),
        (lambda a, b: torch.addmm(b[:, :1], a, b), (big, big)),
    ],
    ids=["mm", "transposed", "bmm", "shared left", "shared right", "both shared", "batch of one", "bias", "column"],
)
def test_products_are_found(function: Callable[..., Tensor], inputs: tuple[Tensor, ...]) -> None:
    ours, theirs, said, module = rewritten(function, *inputs)
    assert (ours, theirs) == (1, 0)
    ((kind, reason),) = said
    assert kind == "applied"
    assert "measured 2× faster" in reason
    found, expected = module(*inputs), function(*inputs)
    assert found.shape == expected.shape
    # Two orders of summation: twice γ_n of sums of at most 129 terms, relative to Σ|a||b| and what is added.
    scale = inputs[0].abs() @ inputs[1].abs() + inputs[1].abs().amax()
    assert ((found - expected).abs() <= 2 * 130 * torch.finfo(torch.float32).eps / 2 * scale).all()


@pytest.mark.parametrize(
    ("inputs", "keywords"),
    [
        ((big.double(), big.double()), {}),
        ((big.bfloat16(), big.bfloat16()), {}),
        ((big[:4], big), {}),
        ((big[:, :4], big[:4]), {}),
        ((big[:16, :16], big[:16, :16]), {}),
        ((big[:0], big), {}),
        ((big, big), {"symbolic": True}),
        ((big, big), {"tune": "model"}),
        ((big, big), {"tune": "off"}),
    ],
    ids=["double", "bfloat16", "few rows", "few terms", "small", "empty", "open sizes", "model", "off"],
)
def test_near_misses_stay_with_aten(inputs: tuple[Tensor, Tensor], keywords: dict[str, Any]) -> None:
    ours, theirs, said, _ = rewritten(torch.mm, *inputs, **keywords)
    assert (ours, theirs, said) == (0, 1, [])


@pytest.mark.parametrize("factors", [{"alpha": 2.0}, {"beta": 0.5}])
def test_sums_with_factors_stay_with_aten(factors: dict[str, float]) -> None:
    ours, _, said, module = rewritten(lambda a, b: torch.addmm(a, a, b, **factors), big, big)
    assert (ours, said) == (0, [])
    assert aten.addmm.default in [node.target for node in module.graph.nodes]


def test_where_bfloat16_may_stand_in_nothing_is_touched() -> None:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        assert rewritten(torch.mm, big, big)[:2] == (0, 1)
    finally:
        torch.set_float32_matmul_precision(before)


def test_backends_may_be_told_apart_how_precise_to_be() -> None:
    """Torch's own question for the precision is an error then."""
    before = str(ProductPass("measure", lambda *_: None).uuid())
    layer, x = nn.Linear(4, 4), torch.randn(2, 4)
    backend: Any = torch.backends.mkldnn.matmul
    backend.fp32_precision = "bf16"
    try:
        assert rewritten(torch.mm, big, big)[:2] == (0, 1)
        assert str(ProductPass("measure", lambda *_: None).uuid()) != before
        assert torch.equal(tzwc.compile(layer, backend="eager")(x), layer(x))
    finally:
        backend.fp32_precision = "none"
    assert torch.get_float32_matmul_precision() == "highest"


def test_without_onednn_the_reason_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matmul_pass.matmul, "available", lambda *_: False)
    monkeypatch.setenv("TZWC_NATIVE", "0")
    ours, theirs, said, _ = rewritten(torch.mm, big, big)
    assert (ours, theirs) == (0, 1)
    assert said == [("declined", "oneDNN cannot be called: TZWC_NATIVE=0")]
    assert rewritten(torch.mm, big[:4], big)[2] == []


def test_what_cannot_be_measured_stays_with_aten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matmul_pass, "choose", lambda *_: {})
    ours, theirs, ((kind, _),), _ = rewritten(torch.mm, big, big)
    assert (ours, theirs, kind) == (0, 1, "declined")


def test_a_slower_library_is_declined_with_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matmul_pass, "choose", lambda *_: {ATEN: 1e-3, ONEDNN: 2e-3})
    ours, theirs, said, _ = rewritten(torch.mm, big, big)
    assert (ours, theirs) == (0, 1)
    assert said == [("declined", "(128×128) · (128×128): oneDNN is not measured to be faster")]


def test_the_key_of_inductors_cache_depends_on_what_decides() -> None:
    keys = {str(ProductPass(tune, lambda *_: None).uuid()) for tune in ("measure", "model", "off")}
    assert len(keys) == 3


def test_remarks_say_when_the_code_was_made_before() -> None:
    said: list[tuple[str, str]] = []
    one = ProductPass("measure", lambda kind, reason, _: said.append((kind, reason)))
    one(fx.Graph())
    one.say_if_not_asked()
    assert said == []
    ProductPass("model", lambda kind, reason, _: said.append((kind, reason))).say_if_not_asked()
    assert said == []
    ProductPass("measure", lambda kind, reason, _: said.append((kind, reason))).say_if_not_asked()
    ((kind, reason),) = said
    assert kind == "note"
    assert "Inductor's cache" in reason


class _Weight(nn.Parameter):
    """Of a class that somebody else has made."""


@pytest.mark.parametrize(("kind", "tune"), [(nn.Parameter, "measure"), (_Weight, "off")])
def test_other_classes_of_tensors_keep_products_away(
    kind: type[nn.Parameter], tune: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The operator takes plain tensors; such a graph is left as Dynamo made it."""
    asked: list[Any] = []
    monkeypatch.setattr(compiled_graph, "inductor_settings", lambda tune, _: asked.append(tune) or {})
    layer = nn.Linear(4, 4)
    layer.weight = kind(layer.weight.detach())
    x = torch.randn(2, 4)
    torch.testing.assert_close(through_dynamo(layer, options={"tune": "measure"})(x), layer(x))
    assert asked == [tune]
    torch._dynamo.reset()


@pytest.mark.inductor
def test_forward_and_backward_through_inductor() -> None:
    with fresh_cache():
        _forward_and_backward()


def _forward_and_backward() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(pointwise(2, 48, 64), nn.GELU(), pointwise(2, 64, 16), nn.Linear(16, 96))
    fast = tzwc.compile(model, tune="measure")
    x = torch.randn(3, 48, 16, 16, requires_grad=True)
    leaves = [x, *fast.parameters()]
    found = torch.autograd.grad(fast(x).square().mean(), leaves)
    exact = model.double()
    x64 = x.detach().double().requires_grad_()
    expected = torch.autograd.grad(exact(x64).square().mean(), [x64, *exact.parameters()])
    products = [r for s in fast.specialisations for r in s.remarks if r.rule == "product" and r.kind == "applied"]
    assert len(products) >= 8  # three forward, and backward one for each weight and for the values in between
    for a, b in zip(found, expected, strict=True):
        # Sums of at most 768 terms, three times in a row, relative to the largest element.
        assert (a.double() - b).abs().max() <= 3 * 768 * torch.finfo(torch.float32).eps * b.abs().max()
