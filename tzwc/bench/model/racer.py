"""One contender of ``tzwc bench model``, as the process that holds the race sees it."""

from __future__ import annotations

import math
import statistics
import time
from dataclasses import asdict
from typing import Any

from tzwc.bench.model.cells import Contender
from tzwc.bench.model.process import Process, ProcessError
from tzwc.bench.model.worker import Task
from tzwc.util.timing import Timing

__all__ = ["Racer"]

_SHORTEST = 0.2  # seconds of calls in one turn, of a contender whose single calls are shorter


class Racer:
    """A process and what is known of it so far.

    Args:
        name: of the contender.
        process: where it runs.
        limit: seconds for every answer.
        end: when the last one must have come, by ``time.monotonic``.

    Attributes:
        known: what it said of its first call.
        seconds: of every call, by round.
        error: why it has failed; empty as long as it has not.
    """

    def __init__(self, name: str, process: Process, limit: float, end: float = math.inf) -> None:
        self.name = name
        self.known: dict[str, Any] = {}
        self.error = ""
        self.seconds: list[list[float]] = []
        self._process = process
        self._limit = limit
        self.end = end
        self._calls = 1

    def ask(self, do: str, **request: Any) -> dict[str, Any]:
        """The answer; nothing, and :attr:`error`, from one that has failed."""
        if self.error:
            return {}
        left = self.end - time.monotonic()
        try:
            if left < 0.1:
                raise ProcessError("no time was left")
            return self._process.ask({"do": do, **request}, round(min(self._limit, left), 1))
        except ProcessError as error:
            self.error = str(error)
            self._process.end()
            return {}

    def prepare(self, task: Task) -> None:
        """Build, call for the first time, and settle."""
        self.ask("build", task=asdict(task))
        self.known = self.ask("first")
        again = self.ask("again")
        self._calls = max(1, round(_SHORTEST / again.get("seconds", _SHORTEST)))
        for kind, distance in again.get("distances", {}).items():
            self.known["distances"][kind] = max(distance, self.known["distances"][kind])

    def turn(self) -> None:
        """Measure once."""
        reply = self.ask("measure", **{"with": [self._calls]})
        if reply:
            self.seconds.append(reply["seconds"])
            self.known["settled"] = reply.get("memory")

    @property
    def timing(self) -> Timing | None:
        """By round; ``None`` unless it took part in all of them."""
        medians = tuple(map(statistics.median, self.seconds))
        return Timing(self.name, medians) if medians and not self.error else None

    def contender(self) -> Contender:
        """As a contender."""
        known = self.known
        return Contender(
            self.name,
            known.get("seconds"),
            known.get("memory"),
            known.get("settled"),
            self.timing,
            known.get("distances", {}),
            known.get("note", ""),
            self.error,
        )
