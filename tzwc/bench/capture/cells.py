"""The figures of ``tzwc bench capture`` at one batch size."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from tzwc.util.timing import Timing, ratio

__all__ = ["Cell", "Contender"]


@dataclass(frozen=True)
class Contender:
    """What was found out about one contender at one batch size.

    Attributes:
        name: of the contender.
        first_call: seconds of its first call at this size, what it compiled for it included.
        timing: seconds per call afterwards; ``None`` when it failed.
        deviation: of its result, largest distance from eager's as a part of eager's largest value.
        left_deviation: the same of the tensors that the forward leaves on its modules.
        error: why it failed; empty when it did not.
    """

    name: str
    first_call: float
    timing: Timing | None = None
    deviation: float = math.nan
    left_deviation: float = math.nan
    error: str = ""

    def to_dict(self) -> dict[str, Any]:
        """JSON-safe."""
        timing = self.timing
        return {
            "contender": self.name,
            "milliseconds": None if timing is None else round(timing.median * 1e3, 3),
            "quartiles": None if timing is None else [round(value * 1e3, 3) for value in timing.quartiles],
            "rounds": 0 if timing is None else len(timing.seconds),
            "first call, seconds": round(self.first_call, 2),
            "deviation from eager": _json(self.deviation),
            "deviation of what is left on modules": _json(self.left_deviation),
            "error": self.error,
        }


@dataclass(frozen=True)
class Cell:
    """All contenders at one batch size."""

    batch: int
    contenders: tuple[Contender, ...]

    @property
    def peer(self) -> Timing | None:
        """The fastest that is not tzwc, by the median."""
        timings = [c.timing for c in self.contenders if c.name != "tzwc" and c.timing is not None]
        return min(timings, key=lambda timing: timing.median, default=None)

    @property
    def gains(self) -> tuple[float, float] | None:
        """How many times faster tzwc is than :attr:`peer`: quotient of medians, median of quotients."""
        ours = next((c.timing for c in self.contenders if c.name == "tzwc"), None)
        if ours is None or self.peer is None:
            return None
        return self.peer.median / ours.median, ratio(self.peer, ours)

    def to_dict(self) -> dict[str, Any]:
        """JSON-safe."""
        return {
            "batch": self.batch,
            "better of eager and torch.compile": None if self.peer is None else self.peer.name,
            "ratio of medians": None if self.gains is None else round(self.gains[0], 3),
            "median of ratios": None if self.gains is None else round(self.gains[1], 3),
            "contenders": [contender.to_dict() for contender in self.contenders],
        }


def _json(value: float) -> float | None:
    return float(f"{value:.3g}") if math.isfinite(value) else None
