"""Writes to memory that is the caller's, or that two slots share: refused; writes to anything else: captured."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import tzwc
from tests.support.faithful import Written, X, pair


@pytest.mark.parametrize(
    "write",
    [
        lambda _, x: x.mul_(2),
        lambda _, x: x.view(-1)[3:].mul_(2),
        lambda _, x: x.t().reshape(6, 4).mul_(2),
        lambda _, x: x.split(2)[1].mul_(2),
        lambda _, x: x.detach().unsqueeze(0).expand(1, 4, 6).select(1, 0).mul_(2),
    ],
)
def test_a_write_to_an_argument_is_refused_through_any_view(write: Callable[..., Any]) -> None:
    with pytest.raises(tzwc.CaptureError, match=r"aten\.mul_\.Tensor writes to the argument 'x'"):
        tzwc.capture(Written(write), X.clone())
    fast, _ = pair(write)
    x, expected = X.clone(), X.clone()
    write(None, expected)
    fast(x)
    assert torch.equal(x, expected)


class _Both(torch.autograd.Function):
    """Recorded whole: its result may be memory of either argument, as far as the graph tells."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor) -> Tensor:
        del ctx
        return x + y

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:  # type: ignore[override]
        del ctx
        return 3 * gradient, gradient.sum(0)


def test_a_write_next_to_an_argument_is_none_to_the_argument() -> None:
    def forward(module: Any, x: Tensor) -> Any:
        result = _Both.apply(x, module.state)
        with torch.no_grad():
            module.state.add_(1)
        return result * module.weight

    fast, model = pair(forward)
    for _ in range(3):
        x = X.clone()
        assert torch.equal(fast(x), model(x))
        assert torch.equal(fast.state, model.state)
        assert torch.equal(x, X)
    assert fast.level == "whole graph"


def test_two_slots_in_one_memory() -> None:
    def forward(module: Any, x: Tensor) -> Tensor:
        module.state.add_(1)
        return x * module.plain

    model = Written(forward, plain=torch.ones(6, dtype=torch.float64))
    assert tzwc.capture(model, X).slots
    model.plain = model.state[:6]
    with pytest.raises(tzwc.CaptureError, match="forward writes to 'state', which shares its memory"):
        tzwc.capture(model, X)
