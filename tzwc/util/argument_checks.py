"""Values from elsewhere: objects whose own methods may raise whatever comes up."""

from __future__ import annotations

import dataclasses
import operator
import sys
import traceback
from contextlib import ContextDecorator
from types import TracebackType
from typing import Any

from tzwc.errors import InvalidArgumentError, TzwcError

__all__ = ["exact", "examined", "make_exact", "shown"]

_KNOWN = sys.stdlib_module_names | {"tzwc", "torch", "numpy"}
"""Packages whose exceptions are not those of somebody's object."""


def shown(value: object, most: int = 300) -> str:
    """``repr(value)`` for a message, at ``most`` so many characters of it; something else where that raises."""
    try:
        text = repr(value)
        return text if len(text) <= most else text[:most] + "…"
    except Exception as error:
        return f"<{type(value).__name__} whose repr raises {type(error).__name__}>"


def exact(value: Any) -> Any:
    """``value`` with numbers, words, lists, tuples and dictionaries of subclasses as what they are derived from.

    What their classes do, in comparisons for example, is asked no more. Other objects stay as they are.
    """
    kind = type(value)
    if kind in (bool, int, float, str):
        return value
    if issubclass(kind, int):
        return operator.index(value)
    if issubclass(kind, float):
        return float.__float__(value)
    if issubclass(kind, str):
        return str.__str__(value)
    if issubclass(kind, dict):
        return {exact(key): exact(item) for key, item in dict.items(value)}
    if issubclass(kind, (tuple, list)):
        base: Any = tuple if issubclass(kind, tuple) else list
        return base(map(exact, base.__iter__(value)))
    return value


def make_exact(declaration: Any) -> None:
    """Make the fields of a frozen dataclass :func:`exact`, before they are checked."""
    for field in dataclasses.fields(declaration):
        object.__setattr__(declaration, field.name, exact(getattr(declaration, field.name)))


class examined(ContextDecorator):
    """Turn what the methods of somebody's object raise in here into an error that says so.

    Exceptions of ``tzwc`` and of the libraries below it go on as they are: they would be defects.

    Args:
        what: which argument is looked at.
        error: the class of the error.
    """

    def __init__(self, what: str, error: type[TzwcError] = InvalidArgumentError) -> None:
        self._what, self._error = what, error

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, RecursionError):
            raise self._error(f"{self._what}: nested too deeply, or without end") from error
        if isinstance(error, Exception) and not isinstance(error, TzwcError) and _somebodys(trace):
            raise self._error(
                f"{self._what}: an object in it raises {shown(error)} when it is looked at; give one of another class"
            ) from error


def _somebodys(trace: TracebackType | None) -> bool:
    """Whether code of an unknown package took part."""
    frames = traceback.walk_tb(trace)
    return any(str(frame.f_globals.get("__name__")).partition(".")[0] not in _KNOWN for frame, _ in frames)
