"""What a run shows: a bar with the time left on a terminal; elsewhere a line an epoch, one a minute in long ones."""

from __future__ import annotations

import statistics
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

from rich import progress
from rich.console import Console

from tzwc.training import distributed
from tzwc.util.console import errors

__all__ = ["Pace", "Progress", "duration"]

_QUIET = 60.0
"""Seconds after which a log that has no bar is told how far the run is."""


class Pace:
    """How long a run has still to go, from its steps and evaluations so far.

    The first step and the first evaluation say nothing: they wait for the compiler.

    Args:
        per_epoch: steps an epoch.
        end: the last step.
        seconds: the run ends after so many at the latest; ``None`` for no limit.
    """

    def __init__(self, per_epoch: int, end: int, seconds: float | None = None) -> None:
        self.per_epoch, self.end = per_epoch, end
        self._last = time.monotonic()
        self._limit = None if seconds is None else self._last + seconds
        self._steps: deque[float] = deque(maxlen=100)
        self._evaluation = 0.0
        self._seen = {"step": False, "evaluation": False}

    def step(self) -> None:
        """A step is done."""
        spent = self._lap("step")
        if spent is not None:
            self._steps.append(spent)

    def evaluation(self) -> None:
        """An evaluation is done."""
        spent = self._lap("evaluation")
        if spent is not None:
            self._evaluation = spent

    def left(self, step: int) -> float | None:
        """Seconds from ``step`` to the end; ``None`` while that cannot be told."""
        if not self._steps:
            return None
        evaluations = self.end // self.per_epoch - step // self.per_epoch
        found = (self.end - step) * statistics.median(self._steps) + evaluations * self._evaluation
        return found if self._limit is None else max(0.0, min(found, self._limit - time.monotonic()))

    def _lap(self, kind: str) -> float | None:
        """Seconds since the last lap; ``None`` for the first of its kind."""
        now = time.monotonic()
        spent, self._last = now - self._last, now
        seen, self._seen[kind] = self._seen[kind], True
        return spent if seen else None


class Progress:
    """Shows nothing unless it is given a console.

    Args:
        title: in front of the bar.
        console: where to show it.
    """

    def __init__(self, title: str = "training", console: Console | None = None) -> None:
        self.title = title
        self._console = console
        self._bar: progress.Progress | None = None
        self._task = progress.TaskID(0)
        self._pace: Pace | None = None
        self._step, self._epochs = 0, 0
        self._said = 0.0

    @classmethod
    def shown(cls, title: str = "training") -> Progress:
        """On standard error, by the first process."""
        return cls(title, errors() if distributed.rank() == 0 else None)

    @contextmanager
    def running(
        self, begin: int, end: int, *, per_epoch: int, epochs: int, seconds: float | None = None
    ) -> Iterator[None]:
        """While steps are taken from ``begin`` up to ``end``, or for so many seconds."""
        console = self._console
        self._step, self._epochs = begin, epochs
        self._pace = Pace(per_epoch, end, seconds)
        if console is None or not console.is_terminal:
            count = end - begin
            self.say(f"{count} step{'' if count == 1 else 's'} …")
            yield
            return
        columns = (
            progress.TextColumn(self.title, markup=False),
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TextColumn("{task.fields[said]}"),
            progress.TimeElapsedColumn(),
            progress.TextColumn("{task.fields[left]}"),
        )
        self._bar = progress.Progress(*columns, console=console, transient=True)
        self._task = self._bar.add_task("", total=end, completed=begin, said="first step", left="")
        self._bar.start()
        try:
            yield
        finally:
            with suppress(OSError):  # the terminal has been closed
                self._bar.stop()
            self._bar = None

    def say(self, text: str) -> None:
        """Show one line."""
        self._said = time.monotonic()
        if self._console is not None:
            try:
                self._console.print(f"{self.title}: {text}", soft_wrap=True, markup=False)
            except OSError:  # the terminal has been closed, or the pipe: no reason to lose a run
                self._console = None

    def advance(self, loss: float) -> None:
        """One step is done."""
        self._step += 1
        if self._pace is None:
            return
        self._pace.step()
        if self._bar is not None:
            self._bar.update(self._task, advance=1, said=f"loss {loss:.3f}", left=self._left())
        elif self._step % self._pace.per_epoch and time.monotonic() - self._said >= _QUIET:
            self.say(_joined(f"step {self._step} of {self._pace.end}", f"loss {loss:.3f}", self._left()))

    def evaluating(self) -> None:
        """All steps of an epoch are done; it is being evaluated."""
        if self._bar is not None:
            self._bar.update(self._task, said="evaluating")

    def epoch(self, row: Mapping[str, float]) -> None:
        """One epoch is done, and evaluated."""
        if self._pace is not None:
            self._pace.evaluation()
        done = f"epoch {row['epoch']:.0f}" + (f" of {self._epochs}" if self._epochs else "")
        held_out, spent = f"held out {row['test_accuracy']:.2%}", duration(row["seconds"])
        self.say(_joined(done, f"loss {row['loss']:.3f}", held_out, spent, self._left()))

    def _left(self) -> str:
        left = None if self._pace is None else self._pace.left(self._step)
        return f"{duration(left)} left" if left and left >= 0.5 else ""


def duration(seconds: float) -> str:
    """In the two largest units that matter: ``7 s``, ``3 min 20 s``, ``2 h 5 min``, ``1 d 3 h``."""
    whole = round(seconds)
    for large, small, size, part in (("d", "h", 86400, 3600), ("h", "min", 3600, 60), ("min", "s", 60, 1)):
        if whole >= size:
            rest = whole % size // part
            return f"{whole // size} {large}" + (f" {rest} {small}" if rest else "")
    return f"{whole} s"


def _joined(*parts: str) -> str:
    return ", ".join(part for part in parts if part)
