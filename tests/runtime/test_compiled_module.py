"""A compiled module gives the results of the original: every call, every mode, after every change."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import tzwc
from tests.support.compiled_testing import assert_same, compiled, hyper_conv
from tests.support.programs import HyperConv, WithBuffers, example


@torch.no_grad()
def test_first_second_and_other_batch_sizes() -> None:
    fast = compiled(hyper_conv())
    for batch in (5, 5, 1, 2, 7, 0, 5):
        assert_same(fast, example(batch, seed=batch))
    shapes = [s.captured.accepts([example(5).shape]) for s in fast.specialisations]
    assert shapes.count(True) == 1
    assert fast.remarks == []


@torch.no_grad()
def test_static_values_are_evaluated_once() -> None:
    fast = compiled(hyper_conv())
    for _ in range(4):
        fast(example())
    (made,) = fast.specialisations
    assert made.split.program.values
    assert (made.cache.stats.misses, made.cache.stats.hits) == (1, 3)
    fast.leave.weight.mul_(2)  # no static value depends on it
    assert_same(fast, example())
    assert made.cache.stats.misses == 1


def test_other_dtype() -> None:
    fast = compiled(hyper_conv())
    with torch.no_grad():
        assert_same(fast, example())
        fast.float()
        torch.testing.assert_close(fast(example().float()), fast.original(example().float()))
        fast.double()
        assert_same(fast, example())


def test_training_gives_outputs_and_all_gradients() -> None:
    fast = compiled(hyper_conv()).train()
    x = example().requires_grad_()
    leaves = [x, *fast.parameters()]
    found = torch.autograd.grad(fast(x).square().sum(), leaves)
    expected = torch.autograd.grad(fast.original(x).square().sum(), leaves)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-10 * max(1.0, b.abs().max().item()))


def test_frozen_slow_network_is_kept_while_training() -> None:
    model = hyper_conv().train()
    model.slow.requires_grad_(False)
    fast = compiled(model)
    assert_same(fast, example())
    assert fast.specialisations[-1].split.program.values
    model.slow.requires_grad_(True)
    assert_same(fast, example())
    assert torch.autograd.grad(fast(example()).sum(), model.slow[0].weight)[0].abs().sum() > 0


def test_train_and_eval_alternate_with_buffers_and_dropout() -> None:
    torch.manual_seed(0)
    eager, model = WithBuffers().double(), WithBuffers().double()
    model.load_state_dict(eager.state_dict())
    fast = compiled(model)
    for step in range(6):
        x = torch.randn(5, 4, dtype=torch.float64)
        for m in (eager, fast):
            m.train(step % 3 != 2)
        torch.manual_seed(step)
        expected = eager({"x": x}, double=step % 2 == 0)
        torch.manual_seed(step)
        found = fast({"x": x}, double=step % 2 == 0)
        assert torch.equal(found["hidden"], expected["hidden"])
        assert found["width"] == expected["width"] == 8
        for a, b in zip(fast.buffers(), eager.buffers(), strict=True):
            assert torch.equal(a, b)
    assert fast.remarks == []


def test_inference_mode_and_autocast() -> None:
    fast = compiled(hyper_conv())
    with torch.inference_mode():
        assert_same(fast, example())
    with torch.no_grad():
        assert_same(fast, example())
    fast.float()
    x = example().float()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        # One bfloat16 product after the other: both run the same ones.
        torch.testing.assert_close(fast(x), fast.original(x), rtol=0.0, atol=0.05)
        assert fast(x).dtype == fast.original(x).dtype
    with torch.no_grad():
        torch.testing.assert_close(fast(x), fast.original(x))


def test_the_wrapper_is_the_module_by_all_names() -> None:
    fast = compiled(hyper_conv())
    assert fast.state_dict().keys() == fast.original.state_dict().keys()
    assert [n for n, _ in fast.named_parameters()] == [n for n, _ in fast.original.named_parameters()]
    assert fast.scale == 2.0
    assert not fast.training
    fast.train()
    assert fast.original.training
    assert fast.original.slow[0].training
    fast.scale = 3.0
    assert fast.original.scale == 3.0
    assert_same(fast, example())
    with pytest.raises(AttributeError, match="nothing_of_this_name"):
        _ = fast.nothing_of_this_name
    assert "HyperConv" in repr(fast)


def test_copies_and_pickles_are_independent() -> None:
    fast = compiled(hyper_conv())
    with torch.no_grad():
        assert_same(fast, example())
        twin = copy.deepcopy(fast)
        file = io.BytesIO()
        torch.save(fast, file)
        file.seek(0)
        revived = [pickle.loads(pickle.dumps(fast)), torch.load(file, weights_only=False)]
        fast.original.slow[0].weight.mul_(2)
        for other in (twin, *revived):
            assert not torch.equal(other(example()), fast(example()))
            assert_same(other, example())
        assert_same(fast, example())


_SHIFT = 1.0


def test_what_no_module_holds_needs_invalidate(monkeypatch: pytest.MonkeyPatch) -> None:
    class Reads(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + _SHIFT

    fast, x = compiled(Reads()), torch.zeros(3)
    assert torch.equal(fast(x), torch.ones(3))
    monkeypatch.setitem(globals(), "_SHIFT", 2.0)
    fast.invalidate()
    assert torch.equal(fast(x), torch.ones(3))
    fast.invalidate(graphs=True)
    assert torch.equal(fast(x), torch.full((3,), 2.0))


def test_compiling_twice_gives_one_wrapper() -> None:
    once = compiled(hyper_conv())
    assert compiled(once).original is once.original


class _Configuration:
    def __init__(self) -> None:
        self.scale = 2.0
        self.table = [[1.0, 2.0], {"shift": 3.0}]


class _Configured(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.config = _Configuration()
        self.factors = [1.0, 2.0]
        self.nested = ([0.5],)

    def forward(self, x: Tensor) -> Tensor:
        table = self.config.table
        return x * self.config.scale * self.factors[0] + table[0][1] + table[1]["shift"] + self.nested[0][0]


def test_plain_data_is_noticed_wherever_it_hangs() -> None:
    model = _Configured()
    fast, x = compiled(model), torch.randn(3, 4, dtype=torch.float64)
    changes: list[Callable[[], object]] = [
        lambda: setattr(model, "factors", [5.0]),
        lambda: model.factors.__setitem__(0, 7.0),
        lambda: setattr(model.config, "scale", 3.0),
        lambda: model.config.table[0].__setitem__(1, 9.0),
        lambda: model.config.table[1].__setitem__("shift", 4.0),
        lambda: model.nested[0].__setitem__(0, 8.0),
        lambda: setattr(model, "config", _Configuration()),
    ]
    for change in changes:
        assert torch.equal(fast(x), model(x))
        assert torch.equal(fast(x), model(x))
        change()
        assert torch.equal(fast(x), model(x))


class _BranchesOnInput(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + 1 if x.sum() > 0 else x - 1


def test_what_cannot_be_captured_runs_as_it_was_and_says_why() -> None:
    fast = compiled(_BranchesOnInput())
    x = torch.randn(3, 4)
    for sign in (1, -1):
        assert torch.equal(fast(sign * x), fast.original(sign * x))
    assert "runs as it was" in str(fast.report())
    assert fast.specialisations == []


def test_errors_of_the_module_are_its_own() -> None:
    fast = compiled(hyper_conv())
    with pytest.raises(RuntimeError, match="size"):
        fast(torch.randn(5, 9, 16, dtype=torch.float64))
    with pytest.raises(TypeError):
        fast()


def test_under_transforms_and_other_compilers_the_original_runs() -> None:
    fast = compiled(hyper_conv())
    x, parameters = example(), dict(fast.named_parameters())
    called = torch.func.functional_call(fast, {k: 2 * v for k, v in parameters.items()}, x)
    expected = torch.func.functional_call(fast.original, {k: 2 * v for k, v in parameters.items()}, x)
    torch.testing.assert_close(called, expected, rtol=1e-12, atol=1e-12)  # of hundreds of products: 2 eps each
    found = torch.func.vmap(fast)(x.unsqueeze(1))
    torch.testing.assert_close(found, torch.func.vmap(fast.original)(x.unsqueeze(1)))
    _, tangent = torch.func.jvp(fast, (x,), (torch.ones_like(x),))
    torch.testing.assert_close(tangent, torch.func.jvp(fast.original, (x,), (torch.ones_like(x),))[1])
    torch.testing.assert_close(torch.compile(fast, backend="eager")(x), fast.original(x))


def test_a_returned_kernel_may_be_written_to() -> None:
    class Returns(HyperConv):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
            return super().forward(x), self.slow(self.grid)

    torch.manual_seed(0)
    fast = compiled(Returns().double())
    with torch.no_grad():
        expected = fast.original(example())
        fast(example())[1].zero_()
        found = fast(example())
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backend": "inductr"}, "backend='inductr'"),
        ({"check": "hash"}, "check='hash'"),
        ({"convolution": "fast"}, "convolution='fast'"),
        ({"cache_bytes": -1}, "cache_bytes=-1"),
        ({"static_sizes": 0}, "static_sizes=0"),
        ({"chache_bytes": 1}, "chache_bytes"),
        ({"passes": ["normalise"]}, "normalise"),
    ],
)
def test_bad_options_are_named(options: dict[str, object], message: str) -> None:
    with pytest.raises(tzwc.InvalidArgumentError, match=message):
        tzwc.compile(hyper_conv(), **options)
    with pytest.raises(tzwc.InvalidArgumentError, match="model="):
        tzwc.compile(torch.sin)  # type: ignore[arg-type]


def test_a_bad_default_names_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZWC_TUNE", "fast")
    with pytest.raises(tzwc.InvalidArgumentError, match="TZWC_TUNE='fast' is not one of"):
        tzwc.compile(hyper_conv())


def test_a_failing_backend_does_not_lose_the_answer() -> None:
    def broken(*_: object) -> Callable[..., object]:
        raise RuntimeError("no compiler here")

    fast = tzwc.compile(hyper_conv(), backend=broken)
    with torch.no_grad():
        assert_same(fast, example())
    assert "no compiler here" in str(fast.report())
