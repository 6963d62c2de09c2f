"""Values whose methods raise are shown and refused; defects of tzwc are not hidden by it."""

from __future__ import annotations

import enum
from collections import namedtuple
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.support.raising_objects import METHODS, VALUES, Unkind, unkind
from tzwc.errors import InvalidArgumentError, SpecError
from tzwc.util.argument_checks import exact, examined, shown

Pair = namedtuple("Pair", "a b")


class Level(enum.IntEnum):
    LOW = 1


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        *((Level.LOW, 1), (np.float64(0.5), 0.5), (np.str_("x"), "x"), (Pair(1, [Level.LOW]), (1, [1])), (True, True)),
        *(({"a": Pair(1, 2)}, {"a": (1, 2)}), (b"x", b"x"), (None, None)),
    ],
)
def test_exact(value: Any, expected: Any) -> None:
    found = exact(value)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize("name", ["int", "float", "str", "tuple", "list", "dict"])
@pytest.mark.parametrize("method", METHODS)
def test_exact_asks_no_method(name: str, method: str) -> None:
    assert exact(unkind(VALUES[name], method)) == VALUES[name]
    assert exact([unkind(VALUES[name], method)]) == [VALUES[name]]


def test_shown() -> None:
    assert shown([1]) == "[1]"
    assert shown("x" * 400, 10) == "'xxxxxxxxx…"
    assert shown(unkind(object(), "__repr__")) == "<Unkind_object whose repr raises Unkind>"
    assert shown(10**5000) == "<int whose repr raises ValueError>"


def _of(module: str) -> Callable[[Any], int]:
    """``len``, asked by a module of that name."""
    names: dict[str, Any] = {"__name__": module}
    exec("def asked(value):\n    return len(value)", names)
    return examined("argument", SpecError)(names["asked"])  # type: ignore[no-any-return]


def test_exceptions_of_somebodys_methods() -> None:
    with pytest.raises(SpecError, match="argument: an object in it raises Unkind") as found:
        _of("tzwc.somewhere")(unkind([1], "__len__"))
    assert isinstance(found.value.__cause__, Unkind)
    with pytest.raises(SpecError, match=r"raises <.*whose repr raises"), examined("x", SpecError):
        raise unkind(Unkind(), "__repr__")


def test_own_exceptions_go_on() -> None:
    with pytest.raises(TypeError, match="has no len"):
        _of("tzwc.somewhere")(3)
    with pytest.raises(SpecError, match="raises TypeError"):
        _of("somebody")(3)


def test_what_is_nested_without_end() -> None:
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(InvalidArgumentError, match="nested too deeply"), examined("x"):
        exact(endless)
