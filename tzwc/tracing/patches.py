"""Functions and properties that are others for a while, for one thread."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from tzwc._torch.tensors import TensorBase

__all__ = ["Patches", "patching"]


patching = threading.RLock()
"""Held by whoever has patches in place. Patches of two threads must not overlap: each puts back what it has found."""


class Patches:
    """Replacements that only the thread meets that made this object; all others get the originals.

    Whoever makes some holds :data:`patching` until they are gone.
    """

    def __init__(self) -> None:
        self._thread = threading.get_ident()

    @contextmanager
    def function(self, owner: Any, name: str, replacement: Callable[..., Any]) -> Iterator[None]:
        """Let ``owner.name`` be ``replacement``, which gets the original first; other threads get the original."""
        inherited = name not in vars(owner)
        original = getattr(owner, name)

        def here(*args: Any, **kwargs: Any) -> Any:
            if threading.get_ident() != self._thread:
                return original(*args, **kwargs)
            return replacement(original, *args, **kwargs)

        setattr(owner, name, here)
        try:
            yield
        finally:
            if inherited:
                delattr(owner, name)
            else:
                setattr(owner, name, original)

    @contextmanager
    def attribute(
        self, name: str, get: Callable[[Tensor], Any] | None, set_: Callable[[Tensor, Any], None] | None = None
    ) -> Iterator[None]:
        """Let the attribute ``name`` of all tensors be read by ``get`` and set by ``set_``; ``None``: as it was."""
        base = getattr(TensorBase, name)
        inherited = name not in vars(Tensor)
        before = vars(Tensor).get(name)

        def getter(tensor: Tensor) -> Any:
            if get is None or threading.get_ident() != self._thread:
                return base.__get__(tensor)
            return get(tensor)

        def setter(tensor: Tensor, value: Any) -> None:
            if set_ is None or threading.get_ident() != self._thread:
                base.__set__(tensor, value)
            else:
                set_(tensor, value)

        setattr(Tensor, name, property(getter, setter))
        try:
            yield
        finally:
            if inherited:
                delattr(Tensor, name)
            else:
                setattr(Tensor, name, before)
