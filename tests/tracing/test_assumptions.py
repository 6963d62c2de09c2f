"""What a program has read of its parameters is compared exactly, whatever it was."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import tzwc
from tests.support.faithful import Written, X

NAN = float("nan")


@pytest.mark.parametrize(
    ("read", "first", "same", "other"),
    [
        (lambda state: [state[0].item()], NAN, NAN, 1.0),
        (lambda state: [state[0].item()], 1.0, 1.0, NAN),
        (lambda state: [int(state[0])], 1.25, 1.75, 2.0),
        (lambda state: state.tolist(), NAN, NAN, 0.0),
        (lambda state: [1 / state[0].item() > 2], 0.25, 0.125, 0.0),  # which raises ZeroDivisionError
        (lambda state: [len(state.nonzero())], 1.0, 2.0, 0.0),
        (lambda state: ["x"] * int(state.exp()[0].item() ** 0.5 > 1), 1.0, 2.0, -1.0),
    ],
)
def test_assumptions_hold_for_what_was_read(
    read: Callable[[Tensor], list[Any]], first: float, same: float, other: float
) -> None:
    model = Written(lambda m, x: [x * m.weight, *read(m.state)])
    model.state.fill_(first)
    captured = tzwc.capture(model, X)
    (name,) = captured.assumptions.slots
    for value, holds in ((first, True), (same, True), (other, False)):
        violated = captured.assumptions.violated({name: torch.full((6,), value, dtype=torch.float64)})
        assert (violated is None) is holds, value


def test_what_cannot_be_computed_any_more_has_changed() -> None:
    model = Written(lambda m, x: x * m.weight if m.state[:2].view(2).sum().item() > 0 else x)
    captured = tzwc.capture(model, X)
    (name,) = captured.assumptions.slots
    assert captured.assumptions.violated({name: torch.ones(6, dtype=torch.float64)}) is None
    violated = captured.assumptions.violated({name: torch.ones(1, dtype=torch.float64)})
    assert violated is not None
    assert "test_assumptions.py" in str(violated)
