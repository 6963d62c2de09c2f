"""Whether anything takes processor time from a measurement: work of this process, of its children, or of others.

What can be known beforehand is asked by :func:`busy`; what happens meanwhile is seen by :class:`Observation`, from
counters that are cheap to read. Where a system does not have them, that part is not seen.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from tzwc.native.loader import disabled, extension

__all__ = ["Observation", "busy", "settled", "working"]

PATIENCE = 60.0
"""Seconds that a process waits in all for its extension to be built, which happens once for a version of torch.
Lowering waits for it as long."""

CHILDREN = 10.0
"""Seconds that a process waits in all for its children, such as compilers, to come to rest."""

_WINDOW = 0.06
"""Seconds below which the counters of the system, in hundredths, say nothing."""

_TAKEN = 0.25
"""Cores that others may take from the threads of torch: twice the resolution of the counters in such a window."""

_WAITED = 0.2
"""Part of the time for which a thread that computes alone may be without a processor."""

_PROC = Path("/proc")

_work: dict[int, list[str]] = {}
_lock = threading.Lock()
_spent = {"extension": 0.0, "children": 0.0}


@contextmanager
def working(what: str) -> Iterator[None]:
    """Tell other threads that this one is busy with ``what``, for the duration of the block."""
    thread = threading.get_ident()
    with _lock:
        _work.setdefault(thread, []).append(what)
    try:
        yield
    finally:
        with _lock:
            _work[thread].pop()
            if not _work[thread]:
                del _work[thread]


def busy() -> str | None:
    """What this process or a child of it is doing beside this thread; ``None`` when it is nothing."""
    if extension.building:
        return "the build of the native extension"
    mine = threading.get_ident()
    with _lock:
        others = [work[-1] for thread, work in _work.items() if thread != mine]
    if others:
        return f"{others[0]} in another thread"
    name = _running_child()
    return None if name is None else f"{name}, a child of this process"


def settled() -> str | None:
    """:func:`busy`, after a wait for the extension and for children, :data:`PATIENCE` and :data:`CHILDREN` at most.

    The extension is requested here, since its build would otherwise begin while something is being measured.
    """
    if not disabled():
        extension.request()
    if extension.building and (patience := PATIENCE - _spent["extension"]) > 0:
        start = time.monotonic()
        extension.wait(patience)
        _spent["extension"] += time.monotonic() - start
    while (what := busy()) is not None and _running_child() is not None and _spent["children"] < CHILDREN:
        time.sleep(_WINDOW)
        _spent["children"] += _WINDOW
    return what


class Observation:
    """From its making until :meth:`end`."""

    def __init__(self) -> None:
        self._start = _counters()
        self._mine = time.perf_counter(), time.thread_time(), time.process_time()

    def end(self) -> str | None:
        """What disturbed this thread; ``None`` when it had the processors that it could use."""
        now = time.perf_counter(), time.thread_time(), time.process_time()
        wall, thread, process = (end - start for end, start in zip(now, self._mine, strict=True))
        if (what := busy()) is not None:
            return what
        threads = torch.get_num_threads()
        on_gpu = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]  # the host waits for it
        if threads == 1 and wall > _WINDOW and thread < (1 - _WAITED) * wall and not on_gpu:
            return "other programs, for which this one had to wait"
        if self._start is None:
            return None
        if wall < _WINDOW:
            time.sleep(_WINDOW - wall)
        end = _counters()
        if end is None or (total := end[0] - self._start[0]) <= 0:
            return None
        cores = os.cpu_count() or 1
        elapsed = total / cores
        taken = (end[1] - self._start[1] - process) / elapsed
        if taken > max(0, cores - threads) + _TAKEN:
            return f"other programs, which took {taken:.1f} of {cores} cores"
        return None


def _counters() -> tuple[float, float] | None:
    """Seconds of all cores together, and those in which they worked, since the start of the system."""
    try:
        first = (_PROC / "stat").read_text(encoding="ascii").split("\n", 1)[0].split()[1:9]
        ticks = [int(number) / os.sysconf("SC_CLK_TCK") for number in first]
    except (OSError, ValueError):
        return None
    idle = sum(ticks[3:5])
    return sum(ticks), sum(ticks) - idle


def _running_child() -> str | None:
    """The name of a child, grandchild and so on that is computing now."""
    parents: dict[int, int] = {}
    running: dict[int, str] = {}
    try:
        folders = [path for path in _PROC.iterdir() if path.name.isdecimal()]
    except OSError:
        return None
    for folder in folders:
        try:
            text = (folder / "stat").read_text(encoding="utf-8", errors="replace")
            name, rest = text[text.index("(") + 1 : text.rindex(")")], text[text.rindex(")") + 2 :].split()
            parents[int(folder.name)] = int(rest[1])
        except (OSError, ValueError, IndexError):  # it has just ended
            continue
        if rest[0] == "R":
            running[int(folder.name)] = name
    for child, name in running.items():
        above = child
        while (above := parents.get(above, 0)) > 1:
            if above == os.getpid():
                return name
    return None


def _forget() -> None:
    """A forked child has none of its parent's threads."""
    global _lock
    _lock = threading.Lock()
    _work.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
