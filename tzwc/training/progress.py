"""What a run shows: a bar with the time left on a terminal, otherwise one line an epoch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich import progress
from rich.console import Console

from tzwc.terminal import errors
from tzwc.training import workers

if TYPE_CHECKING:
    from tzwc.training.loop import Trainer

__all__ = ["Progress"]


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

    @classmethod
    def shown(cls, title: str = "training") -> Progress:
        """On standard error, by the first process."""
        return cls(title, errors() if workers.rank() == 0 else None)

    @contextmanager
    def running(self, trainer: Trainer, end: int) -> Iterator[None]:
        """While ``trainer`` takes its steps up to ``end``."""
        console = self._console
        if console is None or not console.is_terminal:
            if console is not None:
                console.print(f"{self.title}: {end - trainer.step} steps …")
            yield
            return
        columns = (
            progress.TextColumn(self.title),
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TextColumn("{task.fields[said]}"),
            progress.TimeElapsedColumn(),
            progress.TextColumn("left"),
            progress.TimeRemainingColumn(),
        )
        with progress.Progress(*columns, console=console, transient=True) as self._bar:
            self._task = self._bar.add_task("", total=end, completed=trainer.step, said="")
            yield
        self._bar = None

    def say(self, text: str) -> None:
        """Show one line."""
        if self._console is not None:
            self._console.print(f"{self.title}: {text}")

    def advance(self, loss: float) -> None:
        """One step is done."""
        if self._bar is not None:
            self._bar.update(self._task, advance=1, said=f"loss {loss:.3f}")

    def epoch(self, row: Mapping[str, float]) -> None:
        """One epoch is done."""
        self.say(
            f"epoch {row['epoch']:.0f}, loss {row['loss']:.3f}, "
            f"held out {row['test_accuracy']:.2%}, {row['seconds']:.0f} s"
        )
