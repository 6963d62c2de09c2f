"""Operators of kinds that are rare, against eager mode: right in one graph, or refused with the reason."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import tzwc
from tests.support.faithful import Hundred, Written, X, pair


class _Inherited(Hundred):
    pass


class _Around(Hundred):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        del ctx
        result: Tensor = 3 * Hundred.apply(x)
        return result


class _Defaults(torch.autograd.Function):
    """The other way of writing one: the context apart, and arguments that have defaults."""

    @staticmethod
    def forward(x: Tensor, factor: float = 2.0) -> Tensor:
        return x * factor

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        del output
        ctx.factor = inputs[1]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad * ctx.factor * 100, None


_apply = Hundred.apply  # an alias that exists before anything is traced


class _Listed(Hundred):
    @staticmethod
    def forward(ctx: Any, x: Any) -> Tensor:
        del ctx
        result: Tensor = x[0] + x[1]
        return result


class _Overwriting(Hundred):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.mark_dirty(x)
        return x.mul_(2)


def _rearranged(module: Any, x: Tensor) -> Tensor:
    y = x * module.weight
    y.unsqueeze_(0)
    return y.swapaxes_(1, 2) + 1


def _rounded(module: Any, x: Tensor) -> Tensor:
    kernel = torch.ones(6)
    kernel.mul_(module.weight / 3)  # computed in float64, kept in float32
    return x * kernel


def _negated(module: Any, x: Tensor) -> Tensor:
    negative = torch.complex(module.state, module.state + 1).conj().imag
    assert negative.is_neg()
    return x * negative * module.weight


def _sized(module: Any, x: Tensor) -> Tensor:
    if x.shape[0] == 4:  # from here on, a number
        return x * torch.full((x.shape[0], 1), 3.0, dtype=x.dtype) * module.weight
    return x * module.weight


@pytest.mark.parametrize(
    "function",
    [
        _rearranged,
        _rounded,
        _negated,
        _sized,
        lambda m, x: _Inherited.apply(x * m.weight),
        lambda m, x: _apply(x * m.weight),
        lambda m, x: _Defaults.apply(x * m.weight),
        lambda m, x: _Defaults.apply(x * m.weight, 3.0),
        lambda m, x: x * m.count.item() * m.weight + m.count.item(),
    ],
)
def test_one_graph_that_computes_and_differentiates_as_eager(function: Callable[..., Any]) -> None:
    fast, model = pair(function, count=torch.tensor(3))
    for x in (X, X[:3], 2 * X):
        found, expected = fast(x), model(x)
        assert torch.equal(found, expected)
        assert found.dtype == expected.dtype
        for module, result in ((fast, found), (model, expected)):
            module.weight.grad = None
            result.sum().backward()
        torch.testing.assert_close(fast.weight.grad, model.weight.grad, rtol=1e-12, atol=1e-12)
        for module in (fast.original, model):
            module.count.add_(1)
    assert fast.level.startswith("whole graph")


def test_functions_have_their_forward_as_before() -> None:
    before = dict(vars(_Inherited))
    tzwc.capture(Written(lambda m, x: _Inherited.apply(x * m.weight)), X)
    assert dict(vars(_Inherited)) == before


def _reshaped_buffer(module: Any, x: Tensor) -> Tensor:
    module.state.unsqueeze_(0)
    result = x * module.state
    module.state.squeeze_(0)
    return result * module.weight


def _transposed(module: Any, x: Tensor) -> Tensor:
    y = x * module.weight
    return y.transpose_(0, 1)


def _with_gradients(module: Any, x: Tensor) -> Tensor:
    with torch.enable_grad():
        return x * module.weight


_GENERATOR = torch.Generator()


def _drawn(module: Any, x: Tensor) -> Tensor:
    return x * module.weight * torch.rand(6, generator=_GENERATOR, dtype=x.dtype)


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (_reshaped_buffer, "changes the shape of a tensor that outlives the call"),
        (_transposed, "transpose_.* changes a tensor's shape or storage in place"),
        (_with_gradients, "returns a result with gradients although they are switched off"),
        (_drawn, "draws random numbers from a generator of its own"),
        (lambda m, x: _Listed.apply([x, m.weight]), "gives _Listed containers of tensors"),
        (lambda m, x: _Overwriting.apply(x * m.weight), "a custom autograd.Function that writes to its arguments"),
    ],
)
def test_what_a_graph_cannot_do_is_refused(function: Callable[..., Any], reason: str) -> None:
    grad = function is not _with_gradients
    with torch.set_grad_enabled(grad), pytest.raises(tzwc.CaptureError, match=reason):
        tzwc.capture(Written(function), X)
    fast, model = pair(function)
    for _ in range(2):
        results = []
        for module in (fast, model):
            _GENERATOR.manual_seed(0)
            with torch.set_grad_enabled(grad):
                results.append(module(X))
        assert torch.equal(*results)
        assert results[0].requires_grad is results[1].requires_grad


def test_a_function_inside_of_a_function() -> None:
    fast, model = pair(lambda m, x: _Around.apply(x * m.weight))
    for module in (fast, model):
        module(X).sum().backward()
    assert torch.equal(fast(X), model(X))
    assert torch.equal(fast.weight.grad, model.weight.grad)
