"""An integer that may be counted up but not looked at.

``self.calls += 1`` changes the state of a module at every call. As long as nothing depends on the number, the graph
need not know it; so it is traced with a stand-in that refuses everything but addition and subtraction.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

__all__ = ["Counter"]


class Counter:
    """Stands for an integer attribute.

    Args:
        path: dotted name of the attribute.
        refuse: gives up, and tells why.
        increment: what was added so far.
    """

    def __init__(self, path: str, refuse: Callable[[str], NoReturn], increment: int = 0) -> None:
        self.path, self.refuse, self.increment = path, refuse, increment

    def __add__(self, other: Any) -> Counter:
        if type(other) is not int:
            self._read()
        return Counter(self.path, self.refuse, self.increment + other)

    __radd__ = __add__

    def __sub__(self, other: Any) -> Counter:
        return self + -other if type(other) is int else self._read()

    def _read(self, *operands: Any) -> NoReturn:
        del operands
        self.refuse(f"depends on {self.path!r}, which forward changes at every call")

    # isinstance(counter, int) must hold, as it does for what it stands for.
    @property  # type: ignore[misc]
    def __class__(self) -> type:
        return int

    __hash__ = __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = _read
    __int__ = __index__ = __float__ = __bool__ = __complex__ = __str__ = __repr__ = __format__ = _read
    __mul__ = __rmul__ = __truediv__ = __rtruediv__ = __floordiv__ = __rfloordiv__ = __mod__ = __rmod__ = _read
    __pow__ = __rpow__ = __rsub__ = __and__ = __rand__ = __or__ = __ror__ = __xor__ = __rxor__ = _read
    __lshift__ = __rlshift__ = __rshift__ = __rrshift__ = __neg__ = __pos__ = __abs__ = __invert__ = _read
    __round__ = __floor__ = __ceil__ = __trunc__ = __divmod__ = __rdivmod__ = _read
