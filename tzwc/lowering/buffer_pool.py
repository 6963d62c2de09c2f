"""Memory for the intermediate results of lowered graphs, kept between calls.

A graph allocates the same large buffers at every call and frees them again. The C library gives those back to the
system, which has to map and to zero every page anew at the next call (a fifth of the time of a call, measured on
``cifar10`` at batch 16).
Within :func:`with_kept_buffers`, tensors of 128 KiB and more on the CPU come from one range of addresses, first fit,
whose pages stay and are huge where the system allows that (``transparent_hugepage`` is ``madvise`` or ``always``).

Nothing of it is visible: a tensor that leaves the graph keeps its memory for as long as it lives, like any other; other
threads, and whatever runs outside of the scope, have PyTorch's allocator as before. What was not needed within 64
scopes goes back to the system, and :func:`release` gives back at once what is not in use.

It is part of the extension that :mod:`tzwc.native` builds. Where there is none (yet), buffers come as ever.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

from tzwc.native.loader import disabled, extension

__all__ = ["BufferStatistics", "release", "statistics", "with_kept_buffers"]


P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True)
class BufferStatistics:
    """How much memory is kept.

    Attributes:
        in_use: bytes of tensors that are alive.
        kept: bytes that may have memory of the system, those in use among them.
    """

    in_use: int
    kept: int


_native: Any = None  # the extension, once its allocator is in place
_refused = False


def _ready() -> Any:
    global _native, _refused
    if _native is None and not (_refused or disabled()) and (module := extension.request()) is not None:
        if module.buffers_install():
            _native = module
        else:
            _refused = True
    return _native


def with_kept_buffers(function: Callable[P, R]) -> Callable[P, R]:
    """``function``, with kept memory for the large CPU tensors that it allocates in the calling thread."""

    def run(*arguments: P.args, **named: P.kwargs) -> R:
        native = _native or _ready()
        if native is None:
            return function(*arguments, **named)
        native.buffers_enter()
        try:
            return function(*arguments, **named)
        finally:
            native.buffers_leave()

    return run


def statistics() -> BufferStatistics:
    """What is kept at the moment."""
    return BufferStatistics(*_native.buffers_statistics()) if _native is not None else BufferStatistics(0, 0)


def release() -> None:
    """Give all kept memory that no tensor uses back to the system; it is taken again when needed."""
    if _native is not None:
        _native.buffers_release()
