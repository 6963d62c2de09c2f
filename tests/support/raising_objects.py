"""Objects whose own methods raise: somebody's class with a defect, or one that is not finished."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

from hypothesis import strategies as st

from tests.support.tiny_model import Tiny

__all__ = ["METHODS", "VALUES", "Unkind", "unkind", "unkind_objects"]


class Unkind(Exception):
    """What such a method raises."""


METHODS = (
    *("__repr__", "__str__", "__format__", "__eq__", "__ne__", "__lt__", "__le__", "__gt__", "__ge__", "__hash__"),
    *("__len__", "__iter__", "__contains__", "__getitem__", "__bool__", "__index__", "__int__", "__float__"),
    *("__fspath__", "__class__", "__getattr__", "__getattribute__", "keys", "items", "isidentifier", "parameters"),
    *("__array__", "__torch_function__"),
)
VALUES: dict[str, Any] = {
    "object": object(),
    "int": 2,
    "float": 0.5,
    "str": "digits",
    "bytes": b"x",
    "tuple": (3, 2),
    "list": [3, 2],
    "dict": {"hidden": 4},
    "path": PurePosixPath("x"),
    "module": Tiny(),
}


def unkind(value: Any, method: str, error: type[Exception] = Unkind) -> Any:
    """An object like ``value`` of a class in which ``method``, or the property ``__class__``, raises ``error``."""

    def method_(self: Any, *args: Any, **kwargs: Any) -> Any:
        del self, args, kwargs
        raise error(method)

    def copied(self: Any, memo: Any = None) -> Any:
        del memo
        return self

    own: dict[str, Any] = {"__copy__": copied, "__deepcopy__": copied}
    if method == "__class__":
        own[method] = property(method_)
    kind: Any = type("Unkind_" + type(value).__name__, (type(value),), own)
    made = kind() if type(value) in (object, Tiny) else kind(value)
    if method != "__class__":
        setattr(kind, method, method_)  # now, since some constructors call it
    return made


unkind_objects = st.builds(
    unkind,
    st.sampled_from([*VALUES.values()]),
    st.sampled_from(METHODS),
    st.sampled_from([Unkind, TypeError, ValueError, KeyError, AttributeError, RuntimeError]),
)
