"""An integer that may be counted up but not looked at.

``self.calls += 1`` changes the state of a module at every call. As long as nothing depends on the number, the graph
need not know it; so it is traced with a stand-in that refuses everything but addition and subtraction.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, NoReturn

__all__ = ["Counter"]


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
