"""A comparison computes a long convolution once, and still sees every difference."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

import tzwc
from tzwc.tracing import repeated_calls
from tzwc.tracing.verify import disagreement


class Counting(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """How many convolutions are computed."""

    count = 0

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        self.count += func is torch.ops.aten.convolution.default
        return func(*args, **(kwargs or {}))


class Model(nn.Module):
    """Two equal calls, and what ``between`` does with the first result."""

    def __init__(self, between: Callable[[Tensor], Tensor], taps: int = 301) -> None:
        super().__init__()
        self.layer = nn.Conv1d(4, 4, taps, padding="same", groups=4)
        self.between = between

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        first = self.between(self.layer(x))
        return first, self.layer(x)


@pytest.fixture(autouse=True)
def _anything_is_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repeated_calls, "SLOW", 0.0)


def compared(model: nn.Module, x: Tensor) -> tuple[str | None, int]:
    captured = tzwc.capture(model, x)
    with Counting() as counting:
        return disagreement(model, captured, [x], {}), counting.count


@pytest.mark.parametrize("between", [lambda y: y, lambda y: y.mul_(2)], ids=["kept", "written to"])
def test_a_long_convolution_is_computed_once(between: Callable[[Tensor], Tensor]) -> None:
    assert compared(Model(between), torch.randn(1, 4, 320)) == (None, 1)


def test_what_is_short_or_fast_or_too_large_is_computed_every_time(monkeypatch: pytest.MonkeyPatch) -> None:
    assert compared(Model(lambda y: y, taps=3), torch.randn(1, 4, 320)) == (None, 4)
    monkeypatch.setattr(repeated_calls, "MOST_BYTES", 0)
    assert compared(Model(lambda y: y), torch.randn(1, 4, 320)) == (None, 4)
    monkeypatch.undo()
    assert compared(Model(lambda y: y), torch.randn(1, 4, 320)) == (None, 4)


@pytest.mark.parametrize("operand", ["input", "weight"])
def test_other_operands_are_another_call(operand: str) -> None:
    """The second of two calls has another operand, in the module and in the graph alike."""

    class Changing(Model):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            first = self.layer(x)
            weight = self.layer.weight * 2 if operand == "weight" else self.layer.weight
            x = x + 1 if operand == "input" else x
            return first, torch.nn.functional.conv1d(x, weight, self.layer.bias, padding="same", groups=4)

    assert compared(Changing(lambda y: y), torch.randn(1, 4, 320)) == (None, 2)


def test_a_difference_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = Model(lambda y: y), torch.randn(1, 4, 320)
    captured = tzwc.capture(model, x)
    monkeypatch.setattr(model, "between", lambda y: y * 2)
    assert "output 0: differs" in str(compare(model, captured, x))
    monkeypatch.setattr(model, "between", lambda y: y)
    monkeypatch.setattr(model, "layer", nn.Conv1d(4, 4, 301, padding="same", groups=4))
    model.layer.bias = None
    assert "differs" in str(compare(model, captured, x))


def compare(model: nn.Module, captured: Any, x: Tensor) -> str | None:
    with torch.no_grad():
        return disagreement(model, captured, [x], {})
