"""Whether values that a program holds are still what they were, to the bit: 2 is not 2.0, and 0.0 is not -0.0."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["same"]


def same(a: Any, b: Any, comparable: Callable[[Any], bool]) -> bool:
    """Whether ``a`` and ``b`` are identical, or equal, of one type and written alike, in nested containers too.

    Args:
        a: a value.
        b: another.
        comparable: whether an object that is no container may be asked for equality; of others, only one and the same
            is the same.
    """
    if a is b:
        return True
    if type(a) is not type(b):
        return False
    if isinstance(a, (tuple, list)):
        return len(a) == len(b) and all(same(x, y, comparable) for x, y in zip(a, b, strict=True))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k], comparable) for k in a)
    if isinstance(a, (set, frozenset)):
        return a == b and sorted(map(repr, a)) == sorted(map(repr, b))
    return comparable(a) and bool(a == b) and repr(a) == repr(b)
