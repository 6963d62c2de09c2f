"""Many readers or one writer: calls run side by side, and a group of parameter changes looks like one to them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["Gate"]


class Gate:
    """Lets any number of readers through, or one writer alone.

    A thread that writes may also read, and a thread that reads may read again; a reader that wants to write must stop
    reading first. Writers do not starve: while one waits, new readers wait behind it.
    """

    def __init__(self) -> None:
        self._state = threading.Condition(threading.Lock())
        self._readers = 0
        self._waiting = 0
        self._writer: int | None = None
        self._mine = threading.local()

    @property
    def inside(self) -> bool:
        """Whether this thread is reading."""
        return getattr(self._mine, "depth", 0) > 0

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Keep writers out."""
        depth = getattr(self._mine, "depth", 0)
        enters = depth == 0 and self._writer != threading.get_ident()
        if enters:
            with self._state:
                while self._writer is not None or self._waiting:
                    self._state.wait()
                self._readers += 1
        self._mine.depth = depth + 1
        try:
            yield
        finally:
            self._mine.depth = depth
            if enters:
                with self._state:
                    self._readers -= 1
                    if not self._readers:
                        self._state.notify_all()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Keep readers and other writers out.

        Raises:
            RuntimeError: this thread is reading, and would wait for itself.
        """
        me = threading.get_ident()
        if self._writer == me:
            yield
            return
        if getattr(self._mine, "depth", 0):
            raise RuntimeError("parameters cannot be updated from within a call of the module that they belong to")
        with self._state:
            self._waiting += 1
            while self._writer is not None or self._readers:
                self._state.wait()
            self._waiting -= 1
            self._writer = me
        try:
            yield
        finally:
            with self._state:
                self._writer = None
                self._state.notify_all()
