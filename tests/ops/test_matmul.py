"""Products by oneDNN: results, shapes, layouts, and what happens without the extension."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import forward_ad

from tests.support.watch_twins import BUILD_SECONDS
from tzwc.native.loader import extension
from tzwc.ops import matmul as operator
from tzwc.ops.matmul import available, product

pytestmark = pytest.mark.usefixtures("quiet")

EPS = torch.finfo(torch.float32).eps


@pytest.fixture(scope="module", autouse=True)
def _tried() -> None:
    """oneDNN multiplies if it can be called here; otherwise ATen has to keep the same promises."""
    available(BUILD_SECONDS)


def test_onednn_multiplies_or_it_is_said_why() -> None:
    assert available() == (not operator.obstacle())


@st.composite
def operands(draw: st.DrawFn) -> tuple[Tensor, Tensor]:
    batch, rows, terms, columns = (draw(st.integers(1, most)) for most in (4, 40, 70, 40))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 99)))
    batched = draw(st.sampled_from([(True, True), (True, False), (False, True), (False, False)]))
    made = []
    for has_batch, shape in zip(batched, ((rows, terms), (terms, columns)), strict=True):
        sizes = (*((batch,) if has_batch else ()), *shape)
        layout = draw(st.sampled_from(["contiguous", "transposed", "columns of a larger one", "permuted"]))
        if layout == "transposed":
            made.append(torch.randn(*sizes[:-2], sizes[-1], sizes[-2], generator=generator).mT)
        elif layout == "columns of a larger one":
            made.append(torch.randn(*sizes[:-1], sizes[-1] + 3, generator=generator)[..., 2:-1])
        elif layout == "permuted" and has_batch:
            made.append(torch.randn(*sizes[1:], sizes[0], generator=generator).permute(2, 0, 1))
        else:
            made.append(torch.randn(*sizes, generator=generator))
    return made[0], made[1]


@given(operands())
@settings(max_examples=60)
def test_equals_float64_up_to_the_rounding_of_its_sums(pair: tuple[Tensor, Tensor]) -> None:
    a, b = pair
    found = product(a, b)
    expected = a.double() @ b.double()
    assert found.shape == expected.shape
    assert found.is_contiguous()
    terms = a.shape[-1]
    # γ_n Σ|a||b| of a sum of n products in any order (Higham, Accuracy and Stability, 3.5).
    bound = terms * EPS / 2 / (1 - terms * EPS / 2) * (a.double().abs() @ b.double().abs())
    assert ((found.double() - expected).abs() <= bound).all()


def test_a_large_shared_matrix_is_not_copied() -> None:
    a, b = torch.randn(256, 256), torch.randn(3, 256, 8)
    assert a.numel() >= operator._ALONE
    torch.testing.assert_close(product(a, b), a @ b)


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_what_is_not_finite_stays_in_its_row_and_column(value: float) -> None:
    a, b = torch.randn(2, 9, 9), torch.randn(2, 9, 9)
    a[1, 2, 3] = value
    found, expected = product(a, b), a @ b
    assert torch.equal(found.isfinite(), expected.isfinite())


def test_derivatives_are_those_of_aten() -> None:
    a, b, c, d = (torch.randn(*size, dtype=torch.float32) for size in ((6, 8), (8, 5), (6, 8), (8, 5)))
    value, tangent = torch.func.jvp(product, (a, b), (c, d))
    torch.testing.assert_close((value, tangent), torch.func.jvp(torch.matmul, (a, b), (c, d)))
    torch.testing.assert_close(torch.func.grad(lambda a: product(a, b).sum())(a), b.sum(1).expand(6, 8))
    (found,) = torch.autograd.grad(product(a.requires_grad_(), b).sum(), a)
    torch.testing.assert_close(found, b.sum(1).expand(6, 8))


def _dual(operator: Any, a: Tensor, b: Tensor) -> None:
    with forward_ad.dual_level():
        operator(forward_ad.make_dual(a, a), b)


DIFFERENTIATED: dict[str, Callable[[Any, Tensor, Tensor], object]] = {
    "jvp": lambda operator, a, b: torch.func.jvp(operator, (a, b), (a, b)),
    "dual": _dual,
    "requires_grad": lambda operator, a, b: operator(a.requires_grad_(), b),
}


@pytest.mark.parametrize("mode", DIFFERENTIATED)
def test_the_operator_itself_refuses_to_be_differentiated(mode: str) -> None:
    """Its tangent was missing, and counted as zero without a word."""
    operator, a, b = torch.ops.tzwc.product.default, torch.randn(6, 8), torch.randn(8, 5)
    with pytest.raises(NotImplementedError, match=r"no derivatives: call .* torch\.matmul"):
        DIFFERENTIATED[mode](operator, a, b)
    with torch.no_grad():
        torch.testing.assert_close(operator(a, b), a @ b)


def test_shape_function_and_schema() -> None:
    for a, b in [((3, 4), (4, 5)), ((2, 3, 4), (4, 5)), ((3, 4), (2, 4, 5)), ((2, 3, 4), (2, 4, 5))]:
        arguments = (torch.randn(a), torch.randn(b))
        torch.library.opcheck(torch.ops.tzwc.product, arguments, test_utils=("test_schema", "test_faketensor"))


def test_without_the_extension_aten_multiplies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operator, "_native", None)
    monkeypatch.setattr(operator, "_refused", "for a test")
    a, b = torch.randn(3, 4), torch.randn(2, 4, 5)
    assert torch.equal(product(a, b), a @ b)
    with torch.autocast("cpu"):
        assert product(a, b).dtype == torch.float32


def test_shapes_that_do_not_fit_are_an_error() -> None:
    with pytest.raises(RuntimeError):
        product(torch.randn(3, 4), torch.randn(5, 6))


@pytest.mark.parametrize(
    "wrong", [torch.zeros(3, 3, dtype=torch.float64), torch.zeros(0, 3), torch.zeros(3, 3, device="meta"), None]
)
def test_the_extension_takes_no_other_tensors(wrong: Tensor | None) -> None:
    if not available():
        pytest.skip(f"no products by oneDNN: {operator.obstacle()}")
    good = torch.zeros(3, 3)
    for arguments in ((wrong, good, good), (good, wrong, good), (good, good, wrong)):
        with pytest.raises(TypeError, match="float32 on CPU"):
            extension.module.products_multiply(*arguments)


def test_a_torch_without_onednn_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []
    monkeypatch.setattr(operator, "_native", None)
    monkeypatch.setattr(operator, "_refused", "")
    monkeypatch.setattr(extension, "module", SimpleNamespace(products_install=lambda: asked.append(True)))
    for _ in range(2):
        assert not available(BUILD_SECONDS)
    assert asked == [True]
    assert operator.obstacle() == "this build of torch does not export it"
    monkeypatch.setenv("TZWC_NATIVE", "0")
    assert operator.obstacle() == "TZWC_NATIVE=0"


def _raises(*_: Tensor) -> None:
    raise RuntimeError("mkldnn_matmul: float32 needs AVX-512\nException raised from mkldnn_matmul")


TRIALS: dict[str, tuple[Callable[..., object], str]] = {
    "it raises": (_raises, "a trial failed (RuntimeError: mkldnn_matmul: float32 needs AVX-512)"),
    "it does nothing": (lambda *_: None, "a trial gave a wrong product"),
    "it ignores strides": (
        lambda a, b, result: torch.matmul(a, b.contiguous().mT if b.is_contiguous() else b, out=result)
        if b.shape[-1] == b.shape[-2] else result.zero_(),
        "a trial gave a wrong product",
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", TRIALS)
def test_what_does_not_multiply_is_found_out_once(monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    """ATen's function refuses float32 on processors without AVX-512, and was believed to be there for all."""
    multiply, said = TRIALS[fault]
    tried: list[bool] = []

    def counted(a: Tensor, b: Tensor, result: Tensor) -> None:
        tried.append(True)
        multiply(a, b, result)

    monkeypatch.setattr(operator, "_native", None)
    monkeypatch.setattr(operator, "_refused", "")
    fake = SimpleNamespace(products_install=lambda: True, products_multiply=counted)
    monkeypatch.setattr(extension, "module", fake)
    for _ in range(3):
        assert not available(BUILD_SECONDS)
        assert tried == [True]
    assert operator.obstacle() == said
    a, b = torch.randn(3, 4), torch.randn(4, 5)
    assert torch.equal(product(a, b), a @ b)
