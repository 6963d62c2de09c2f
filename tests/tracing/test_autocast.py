"""Functions whose products autocast converts, although it has no rule for the functions themselves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import tzwc

FUNCTIONS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "einsum": lambda x, w, v: torch.einsum("bi,ij,jk->bk", x, w, v).to(torch.float32),
    "tensordot": lambda x, w, v: torch.tensordot(x, w, 1) @ v,
    "inner": lambda x, w, v: torch.inner(x, w.T) @ v,
    "multi_dot": lambda x, w, v: torch.linalg.multi_dot([x, w, v]),
    "matrix_power": lambda x, w, v: x @ torch.linalg.matrix_power(w @ w.T, 3) @ w @ v,
    "cov": lambda x, w, v: torch.cov(x @ w @ v),
    "corrcoef": lambda x, w, v: (x @ w @ v).float().corrcoef(),
    "linear": lambda x, w, v: nn.functional.linear(x, w.T) @ v,
}


class Product(nn.Module):
    """A function of the input and two parameters."""

    def __init__(self, function: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function
        self.w, self.v = nn.Parameter(torch.randn(3, 4)), nn.Parameter(torch.randn(4, 2))

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, self.w, self.v)


CASES = [
    (name, way) for name in FUNCTIONS for way in ("compile", "dynamo") if way == "compile" or not name.startswith("co")
]
"""Dynamo breaks its graph within ``cov`` and ``corrcoef``, and then trips over a warning of its own."""


@pytest.mark.parametrize(("name", "way"), CASES)
def test_the_products_inside_are_converted(name: str, way: str) -> None:
    torch.manual_seed(0)
    model, x = Product(FUNCTIONS[name]), torch.randn(5, 3)
    if way == "compile":
        fast = tzwc.compile(model, backend="eager", verify=False)
    else:
        torch.compiler.reset()
        fast = torch.compile(model, backend="tzwc", options={"backend": "eager", "verify": False})
    with torch.autocast("cpu", torch.bfloat16):
        expected, found = model(x), fast(x)
    assert found.dtype == expected.dtype
    assert torch.equal(found, expected)
    check_gradients(model, found, expected)
    if way == "compile":
        assert fast.level == "whole graph" or name in ("cov", "corrcoef")


class Region(Product):
    """Switches autocast on by itself, for the function alone; inside of it, a part does without."""

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            y = self.function(x, self.w, self.v)
            with torch.autocast("cpu", enabled=False):
                z = torch.einsum("bi,ij->bj", x, self.w)
        return y.float().sum() + torch.einsum("bi,bj->ij", z, z)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_regions_inside_of_a_module(name: str) -> None:
    torch.manual_seed(0)
    model, x = Region(FUNCTIONS[name]), torch.randn(5, 3)
    fast = tzwc.compile(model, backend="eager", verify=False)
    expected, found = model(x), fast(x)
    assert found.dtype == expected.dtype
    # A pass makes matrix products of the einsums outside of bfloat16: z has 3 terms a sum and zᵀz 5, in another order.
    z = (x @ model.w).abs().detach()
    largest = ((z.T @ z).max() + expected.detach().abs().max()).item()
    torch.testing.assert_close(found, expected, rtol=0, atol=2 * (3 + 5 + 1) * torch.finfo(torch.float32).eps * largest)
    check_gradients(model, found, expected)
    assert not torch.is_autocast_enabled("cpu")


def check_gradients(model: Product, found: Tensor, expected: Tensor) -> None:
    parameters = [model.w, model.v]
    ours = torch.autograd.grad(found.float().square().sum(), parameters)
    theirs = torch.autograd.grad(expected.float().square().sum(), parameters)
    for a, b in zip(ours, theirs, strict=True):  # four roundings of bfloat16, which may fall in another order
        torch.testing.assert_close(a, b, rtol=2**-6, atol=2**-6 * b.abs().max().item())


class Outside(torch.autograd.Function):
    """A function of the module's own, in whose products autocast acts."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor) -> Tensor:
        ctx.save_for_backward(x, w)
        return x @ w

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        x, w = ctx.saved_tensors
        return gradient.to(w.dtype) @ w.T, x.T @ gradient.to(x.dtype)


class PartlyWithout(torch.nn.Module):
    """A part switches autocast off, another one is a custom function."""

    def __init__(self) -> None:
        super().__init__()
        self.w = torch.nn.Parameter(torch.randn(3, 3))

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", enabled=False):
            exact = (x.float() + 2**-12) @ self.w
        return exact + Outside.apply(x, self.w)


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("verify", [False, True])
def test_what_autocast_converts_is_converted_once(grad: bool, verify: bool) -> None:
    """The graph has the conversions in it: run under autocast, it would lose what a region without it computes."""
    torch.manual_seed(0)
    model, x = PartlyWithout(), torch.randn(5, 3)
    fast = tzwc.compile(model, backend="eager", verify=verify)
    for _ in range(2):
        with torch.set_grad_enabled(grad), torch.autocast("cpu", torch.bfloat16):
            expected, found = model(x), fast(x)
        assert found.dtype == expected.dtype
        assert torch.equal(found, expected)
    assert fast.level == "whole graph"
