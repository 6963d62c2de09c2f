"""Checks shared by the declarations of :mod:`tzwc.models`; every failure names field, value and expectation."""

from __future__ import annotations

import dataclasses
import difflib
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from tzwc.errors import SpecError
from tzwc.util.argument_checks import shown

__all__ = [
    "LARGEST",
    "closest",
    "fraction",
    "known_fields",
    "one_of",
    "per_block",
    "plain",
    "positive_int",
    "positive_ints",
    "positive_number",
    "refuse",
    "require",
]


LARGEST: Final = 2**63 - 1
"""No size of a tensor is larger."""


def refuse(field: str, value: object, expected: str) -> SpecError:
    """The error for ``field`` having ``value`` where ``expected`` was expected."""
    return SpecError(f"{field} = {shown(value)}: expected {expected}")


def require(condition: bool, field: str, value: object, expected: str) -> None:
    """Raise :class:`~tzwc.errors.SpecError` unless ``condition`` holds."""
    if not condition:
        raise refuse(field, value, expected)


def closest(name: object, choices: Iterable[str]) -> str:
    """``"one of a, b, c (did you mean 'a'?)"``, for messages about an unknown name."""
    names = list(choices)
    near = difflib.get_close_matches(name if isinstance(name, str) else shown(name), names, n=1)
    return f"one of {', '.join(names)}" + (f" (did you mean {near[0]!r}?)" if near else "")


def one_of(field: str, value: object, choices: Sequence[str]) -> None:
    """Raise :class:`~tzwc.errors.SpecError` unless ``value`` is one of the words ``choices``."""
    require(isinstance(value, str) and value in choices, field, value, closest(value, choices))


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def positive_int(field: str, value: object, minimum: int = 1) -> int:
    """``value`` if it is an int of at least ``minimum``."""
    if not _is_int(value) or not isinstance(value, int) or value < minimum:
        raise refuse(field, value, f"an integer of at least {minimum}")
    if value > LARGEST:
        raise refuse(field, value, f"an integer of at most {LARGEST}")
    return value


def positive_ints(field: str, value: object, minimum: int = 1) -> tuple[int, ...]:
    """``value`` as a non-empty tuple of ints of at least ``minimum``."""
    if not isinstance(value, (tuple, list)) or not value:
        raise refuse(field, value, f"a non-empty sequence of integers of at least {minimum}")
    return tuple(positive_int(f"{field}[{i}]", item, minimum) for i, item in enumerate(value))


def positive_number(field: str, value: object) -> float:
    """``value`` as a float that is positive and finite."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    # An integer may lie beyond all floats.
    if not number or not isinstance(value, (int, float)) or not 0 < value <= sys.float_info.max:
        raise refuse(field, value, "a positive finite number")
    return float(value)


def fraction(field: str, value: object) -> float:
    """``value`` as a float in ``[0, 1)``."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1:
        raise refuse(field, value, "a number in [0, 1)")
    return float(value)


def per_block(values: tuple[float, ...]) -> tuple[float, ...]:
    """The shortest tuple that means the same when its last value holds for all further blocks."""
    end = len(values)
    while end > 1 and values[end - 1] == values[end - 2]:
        end -= 1
    return values[:end]


def known_fields(cls: type, fields: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """``fields`` as keyword arguments of the dataclass ``cls``, refusing names that it does not have."""
    names = [field.name for field in dataclasses.fields(cls)]
    require(isinstance(fields, Mapping), prefix or "fields", fields, "a mapping from names of fields to values")
    for name in fields:
        if name not in names:
            full = f"{prefix}.{name}" if prefix and isinstance(name, str) else name
            raise refuse("field", full, closest(name, names))
    missing = [f.name for f in dataclasses.fields(cls) if f.default is dataclasses.MISSING and f.name not in fields]
    require(not missing, prefix or "fields", dict(fields), f"also {', '.join(missing)}")
    return dict(fields)


def plain(value: object) -> object:
    """``value`` with tuples turned into lists at any depth, as JSON has them."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, (tuple, list)) else value
