"""Stand-ins for Python numbers that a module reads, or counts up, while it is traced.

``if width.item() < 1.0`` needs to know on which side of 1.0 the width is, not what it is. A parameter changes with
every step of an optimiser, so a graph that assumed its value would be of no use for the next step. Hence
:class:`Number` for what ``item()`` returns: a comparison, a rounding or a text that is made of it is assumed instead,
and the exact value only where it is used.

``self.calls += 1`` changes the state of a module at every call. As long as nothing depends on the number, the graph
need not know it; :class:`Counter` stands for it and refuses everything but addition and subtraction.
"""

from __future__ import annotations

import math
import operator
import threading
from collections.abc import Callable
from typing import Any, NoReturn

from torch import Tensor

from tzwc._torch import pytree

__all__ = ["Counter", "Number", "as_plain"]


Derive = Callable[[float], Any]


class Number:
    """Stands for ``derive(value)``, which is a float.

    Args:
        value: what was read.
        note: learns which function of ``value`` the program looked at.
        derive: what the program has computed from it so far.
    """

    __slots__ = ("_derive", "_note", "_value")

    def __init__(self, value: float, note: Callable[[Derive], None], derive: Derive = float) -> None:
        self._value, self._note, self._derive = value, note, derive

    # isinstance(number, float) must hold, as it does for what it stands for.
    @property  # type: ignore[misc]
    def __class__(self) -> type:
        return float

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(float(self), name)

    def __copy__(self) -> Number:
        return self

    def __deepcopy__(self, memo: Any) -> Number:
        del memo
        return self

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Operators on tensors get the exact value."""
        del types
        args, kwargs = pytree.tree_map(as_plain, (args, kwargs or {}))
        return func(*args, **kwargs)

    def _observe(self, function: Callable[..., Any], *others: Any) -> Any:
        """``function`` of it, which the graph takes for granted from now on."""
        if any(isinstance(other, Tensor) for other in others):
            return NotImplemented  # the tensor's operator comes next
        if not all(type(other) in _PLAIN for other in others):
            return function(float(self), *others)
        plain = [as_plain(other) for other in others]
        derive = self._derive
        self._note(lambda value: function(derive(value), *plain))
        return function(derive(self._value), *plain)

    def _compute(self, function: Callable[..., Any], *others: Any) -> Any:
        """``function`` of it, of which nothing is taken for granted yet."""
        plain = [as_plain(other) for other in others]
        derive = self._derive
        ordinary = all(type(other) in _PLAIN for other in plain)
        if not ordinary or type(function(derive(self._value), *plain)) is not float:
            return self._observe(function, *plain)
        return Number(self._value, self._note, lambda value: function(derive(value), *plain))

    def __float__(self) -> float:
        return float(self._observe(float))

    def __round__(self, digits: int | None = None) -> Any:
        return self._observe(round) if digits is None else self._compute(round, digits)


_PLAIN = (int, float, bool, str, type(None), Number)


def as_plain(value: Any) -> Any:
    """``value``, or the float that it stands for, which the graph then takes for granted."""
    return float(value) if type(value) is Number else value


def _observed(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda number, *others: number._observe(function, *others)


def _computed(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda number, *others: number._compute(function, *others)


def _reflected(function: Callable[..., Any]) -> Callable[..., Any]:
    return _computed(lambda value, other: function(other, value))


for _name in ("lt", "le", "gt", "ge", "eq", "ne"):
    setattr(Number, f"__{_name}__", _observed(getattr(operator, _name)))
_OBSERVED: dict[str, Callable[..., Any]] = {
    "bool": bool,
    "int": int,
    "trunc": math.trunc,
    "floor": math.floor,
    "ceil": math.ceil,
    "complex": complex,
    "str": str,
    "repr": repr,
    "format": format,
    "hash": hash,
    "divmod": divmod,
    "rdivmod": lambda value, other: divmod(other, value),
}
for _name, _function in _OBSERVED.items():
    setattr(Number, f"__{_name}__", _observed(_function))
for _name in ("neg", "pos", "abs"):
    setattr(Number, f"__{_name}__", _computed(getattr(operator, _name)))
for _name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow"):
    setattr(Number, f"__{_name}__", _computed(getattr(operator, _name)))
    setattr(Number, f"__r{_name}__", _reflected(getattr(operator, _name)))


class Counter:
    """Stands for an integer attribute; to other threads, which may call the module meanwhile, it is the integer.

    Args:
        path: dotted name of the attribute.
        refuse: gives up, and tells why.
        value: what it stands for.
        increment: what was added so far.
    """

    def __init__(self, path: str, refuse: Callable[[str], NoReturn], value: int, increment: int = 0) -> None:
        self.path, self.refuse, self.value, self.increment = path, refuse, value, increment
        self._thread = threading.get_ident()

    def _operate(self, name: str, *operands: Any) -> Any:
        if threading.get_ident() != self._thread:
            return getattr(self.value + self.increment, name)(*operands)
        if name in ("__add__", "__radd__", "__sub__") and type(operands[0]) is int:
            added = -operands[0] if name == "__sub__" else operands[0]
            return Counter(self.path, self.refuse, self.value, self.increment + added)
        return self.refuse(f"depends on {self.path!r}, which forward changes at every call")

    # isinstance(counter, int) must hold, as it does for what it stands for.
    @property  # type: ignore[misc]
    def __class__(self) -> type:
        return int


def _operator(name: str) -> Callable[..., Any]:
    return lambda counter, *operands: counter._operate(name, *operands)


_READING = "hash eq ne lt le gt ge int index float bool str repr format round floor ceil trunc neg pos abs invert"
_BINARY = "add sub mul truediv floordiv mod divmod pow and or xor lshift rshift"
for _name in [*_READING.split(), *_BINARY.split(), *(f"r{name}" for name in _BINARY.split())]:
    setattr(Counter, f"__{_name}__", _operator(f"__{_name}__"))
