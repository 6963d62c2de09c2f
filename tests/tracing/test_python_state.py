"""The Python state around a module: what a hook reaches, and the generators of random numbers."""

from __future__ import annotations

import functools
import random
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import tzwc
from tests.support.faithful import Written, X, pair
from tzwc.tracing.random_generators import same_randomness


def _partial(seen: list[int]) -> Callable[..., None]:
    return functools.partial(lambda seen, *_: seen.append(1), seen)


def _named_partial(seen: list[int]) -> Callable[..., None]:
    return functools.partial(lambda *_, seen: seen.append(1), seen=seen)


def _closure(seen: list[int]) -> Callable[..., None]:
    def hook(*_: object) -> None:
        seen.append(1)
        if len(seen) > 100:
            seen.extend(later)

    if not seen:
        return hook
    later = [1]
    return hook


class _Counts:
    def __init__(self, seen: list[int]) -> None:
        self.seen = seen

    def __call__(self, *_: object) -> None:
        self.seen.append(1)

    def count(self, *_: object) -> None:
        self.seen.append(1)


@pytest.mark.parametrize(
    "make", [_partial, _named_partial, _closure, _Counts, lambda seen: _Counts(seen).count], ids=lambda f: f.__name__
)
def test_what_a_hook_changes_is_changed_at_every_call_and_by_no_capture(
    make: Callable[[list[int]], Callable[..., None]],
) -> None:
    model, seen = nn.Linear(6, 3).double(), list[int]()
    model.register_forward_hook(make(seen))
    with pytest.raises(tzwc.CaptureError, match='changes the length or contents of "a hook\'s variable"'):
        tzwc.capture(model, X)
    assert seen == []
    fast = tzwc.compile(model, backend="eager")
    for calls in range(1, 5):
        fast(X)
        assert len(seen) == calls


@pytest.mark.parametrize(("before", "after"), [(0.0, -0.0), (2, 2.0), ((0.0,), (-0.0,)), ({"a": 0}, {"a": False})])
def test_an_equal_value_that_is_set_is_set(before: object, after: object) -> None:
    def forward(module: Any, x: Tensor) -> Tensor:
        module.last = after
        return x * module.weight

    fast, model = pair(forward, last=before)
    for _ in range(4):
        assert torch.equal(fast(X), model(X))
        assert repr(fast.last) == repr(model.last) == repr(after)
        fast.last = model.last = before


def test_without_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is no dependency: generators that do not exist are not looked at."""
    monkeypatch.delitem(sys.modules, "numpy")
    with same_randomness():
        torch.empty(2)
    state = random.getstate()
    with pytest.raises(tzwc.CaptureError, match="draws from Python's random module"), same_randomness():
        random.random()
    assert random.getstate() == state
    with pytest.raises(tzwc.CaptureError, match="seeds PyTorch's random generator"), same_randomness():
        torch.manual_seed(3)


def test_module_state_is_put_back_when_forward_fails() -> None:
    def forward(module: Any, x: Tensor) -> Tensor:
        module.kept["x"] = x
        module.listed.append(x)
        module.counted.add(len(module.counted))
        raise ZeroDivisionError

    model = Written(forward, kept={"y": 1}, listed=[2], counted={0})
    with pytest.raises(ZeroDivisionError):
        tzwc.capture(model, X)
    assert (model.kept, model.listed, model.counted) == ({"y": 1}, [2], {0})
