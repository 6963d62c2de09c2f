"""From measurements to facts: one process measures at a time, and what is doubtful is measured again later.

A measurement is **doubtful** when something disturbed it, or when it contradicts what is expected. It is remembered as
such, apart from the facts, and decides nothing in another process. One that contradicts expectations though nothing was
seen to disturb it becomes a fact when a later one, not disturbed either, agrees: then the expectation was wrong.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from filelock import FileLock, Timeout

from tzwc.autotune import disturbance
from tzwc.util.disk_cache import Fact, Store, seconds_of

__all__ = ["Finding", "agreed", "establish"]

T = TypeVar("T")

PATIENCE = 10.0
"""Seconds to wait for another process that measures; a problem takes half a second."""

LATER = 60.0
"""Seconds before the same process measures a doubtful problem again."""

AGREEING = 1.5
"""Factor within which two measurements agree."""

_tried: dict[str, float] = {}
_lock = threading.Lock()
"""One thread measures at a time."""


@dataclass(frozen=True)
class Finding(Generic[T]):
    """What is known about a problem.

    Attributes:
        value: measured now or before; ``None`` when only a prediction can decide.
        remembered: it is from before.
        doubt: why it is not a fact; empty when it is.
    """

    value: T | None
    remembered: bool = False
    doubt: str = ""


def establish(
    store: Store,
    kind: Fact,
    key: Mapping[str, Any],
    *,
    read: Callable[[], T | None],
    measure: Callable[[], T],
    write: Callable[[T], tuple[Any, Mapping[str, float]] | None],
    contradiction: Callable[[T], str | None],
) -> Finding[T]:
    """The fact for ``key``, measured where there is none yet and the machine is quiet.

    Args:
        store, kind, key: where it is remembered.
        read: the fact as remembered, if it is.
        measure: measures.
        write: what to remember, and the seconds in it; ``None`` when nothing came out.
        contradiction: how far a measurement is from what is expected; ``None`` when it is not.
    """
    if (found := read()) is not None:
        return Finding(found, remembered=True)
    about = {"of": kind, **key}
    name = store.name("doubt", about)
    if _tried.get(name, 0.0) > time.monotonic():
        return Finding(None, doubt=f"the last measurement, less than {LATER:.0f} s ago, is doubtful")
    if (what := disturbance.settled()) is not None:
        return Finding(None, doubt=f"the machine is busy with {what}")
    with _alone(store) as alone:
        if not alone:
            return Finding(None, doubt="another process has been measuring")
        if (found := read()) is not None:  # which that one has found
            return Finding(found, remembered=True)
        observation = disturbance.Observation()
        value = measure()
        disturbed = observation.end()
        if (written := write(value)) is None:
            return Finding(value)
        stored, seconds = written
        surprise = contradiction(value)
        if disturbed is None and (surprise is None or agreed(store.get("doubt", about), seconds)):
            store.put(kind, key, stored)
            store.discard("doubt", about)
            return Finding(value)
        doubt = surprise if disturbed is None else f"the machine was busy with {disturbed}"
        _tried[name] = time.monotonic() + LATER
        store.put("doubt", about, {"why": doubt, "disturbed": disturbed is not None, "seconds": dict(seconds)})
        return Finding(value if disturbed is None else None, doubt=doubt or "")


def agreed(before: object, seconds: Mapping[str, float]) -> bool:
    """Whether a doubtful measurement, as it came out of a file, was not disturbed and says the same as ``seconds``."""
    if not isinstance(before, dict) or before.get("disturbed") is not False:
        return False
    try:
        old = seconds_of(before.get("seconds"))
    except ValueError:
        return False
    return old.keys() == seconds.keys() and all(
        1 / AGREEING < old[name] / value < AGREEING for name, value in seconds.items()
    )


@contextmanager
def _alone(store: Store) -> Iterator[bool]:
    """Whether no other thread, nor another process of this host with this store, measures during the block.

    The lock is one of the operating system's, which ends with its process. Where there can be none, nobody is kept.
    """
    if not _lock.acquire(timeout=PATIENCE):
        yield False
        return
    try:
        lock = FileLock(store.lock)
        try:
            store.lock.parent.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=PATIENCE)
        except Timeout:
            yield False
            return
        except (OSError, NotImplementedError):  # the folder cannot be written to, or its file system has no locks
            yield True
            return
        try:
            yield True
        finally:
            lock.release()
    finally:
        _lock.release()
