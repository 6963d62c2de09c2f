"""Tensors that a program keeps where its module knows nothing of them: real ones, from a program run as it was."""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

import tzwc
from tests.support.faithful import Written, X, pair


class _Plain:
    value: Any


class _Slotted:
    __slots__ = ("value",)
    value: Any


_LIST: list[Any] = []
_DICT: dict[str, Any] = {}
_SET: set[Any] = set()
_DEQUE: deque[Any] = deque()
_SLOTTED, _PLAIN = _Slotted(), _Plain()


def _cell() -> tuple[Callable[[Any], None], Callable[[], list[Any]]]:
    held: Any = None

    def put(value: Any) -> None:
        nonlocal held
        held = value

    return put, lambda: [held]


_put, _get = _cell()

KEEPERS: dict[str, tuple[Callable[[Any], object], Callable[[], list[Any]]]] = {
    "list": (_LIST.append, lambda: list(_LIST)),
    "nested": (
        lambda value: _LIST.append((value, [value])),
        lambda: [e for pair in _LIST for e in (pair[0], *pair[1])],
    ),
    "dict": (lambda value: _DICT.update(last=value), lambda: list(_DICT.values())),
    "set": (_SET.add, lambda: list(_SET)),
    "cell": (_put, _get),
    "deque": (_DEQUE.append, lambda: list(_DEQUE)),
    "attribute": (lambda value: setattr(_PLAIN, "value", value), lambda: [_PLAIN.value]),
    "partial": (lambda value: _LIST.append(functools.partial(print, value)), lambda: [p.args[0] for p in _LIST]),
    "slot": (lambda value: setattr(_SLOTTED, "value", value), lambda: [_SLOTTED.value]),
}


MUTABLE = ("list", "dict", "set", "deque")


@pytest.fixture(autouse=True)
def _empty() -> None:
    _clear()


def _clear() -> None:
    for container in (_LIST, _DICT, _SET, _DEQUE):
        container.clear()  # type: ignore[attr-defined]
    _put(None)
    _SLOTTED.value = _PLAIN.value = None


@pytest.mark.parametrize("static", [False, True])
@pytest.mark.parametrize("name", KEEPERS)
def test_what_is_kept_outside_of_the_module(name: str, static: bool) -> None:
    keep, kept = KEEPERS[name]

    def forward(module: Any, x: Tensor) -> Tensor:
        y = module.weight.exp() if static else x * module.weight
        keep(y)
        return y * x

    with pytest.raises(tzwc.CaptureError, match=r"is kept outside of the module[:,] .*test_escapes.py:\d+"):
        tzwc.capture(Written(forward), X)
    assert not any(isinstance(value, FakeTensor) for value in kept()) or name not in MUTABLE
    fast, model = pair(forward)
    for x in (X, 2 * X):
        values = []
        for module in (model, fast):
            _clear()
            result = module(x)
            values.append((result, next(value for value in kept() if not isinstance(value, FakeTensor))))
        (result, value), (found, of_fast) = values
        assert torch.equal(found, result)
        assert torch.equal(of_fast, value)
