"""A clock that does not tick by itself, and algorithms that take as long as they are told."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping

import pytest

import tzwc.autotune.disturbance
import tzwc.autotune.facts
from tzwc.autotune.timers import Call


class FakeTimer:
    """Calls return how long they take; nothing else takes time, but for a ``noise`` of its own."""

    def __init__(self, noise: Callable[[random.Random], float] = lambda _: 1.0, seed: int = 0) -> None:
        self.clock = 0.0
        self.calls = 0
        self._noise, self._rng = noise, random.Random(seed)

    def time(self, call: Call, times: int) -> float:
        self.calls += times
        total = 0.0
        for _ in range(times):
            seconds = call()
            assert isinstance(seconds, float)
            total += seconds * self._noise(self._rng)
        self.clock += total
        return total / times

    def now(self) -> float:
        return self.clock


def takes(seconds: Mapping[str, float]) -> dict[str, Callable[[], Call]]:
    """Candidates for a :class:`FakeTimer`."""
    return {name: (lambda s=value: lambda: s) for name, value in seconds.items()}


def make_quiet(patch: pytest.MonkeyPatch, before: str | None = None, meanwhile: str | None = None) -> None:
    """Let nothing be seen to disturb a measurement, or what is told ``before`` and ``meanwhile``."""

    class Fake:
        def end(self) -> str | None:
            return meanwhile

    patch.setattr(tzwc.autotune.disturbance, "settled", lambda: before)
    patch.setattr(tzwc.autotune.disturbance, "Observation", Fake)
    patch.setattr(tzwc.autotune.facts, "_tried", {})
