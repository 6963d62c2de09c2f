"""What is known of the algorithms for one convolution, and which of them was chosen."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

__all__ = ["Candidate", "Choice", "Source"]

Source = Literal["off", "built-in", "calibrated", "measured", "remembered"]
"""Where the seconds that decided come from."""


@dataclass(frozen=True)
class Candidate:
    """One algorithm that could be used.

    Attributes:
        predicted: seconds by the cost model; ``None`` when it knows nothing about this algorithm on such a device.
        measured: seconds, the median; ``None`` when it was not measured.
    """

    predicted: float | None
    measured: float | None = None

    @property
    def seconds(self) -> float:
        """Measured, or else predicted, or else infinite."""
        known = self.predicted if self.measured is None else self.measured
        return math.inf if known is None else known


@dataclass(frozen=True)
class Choice:
    """The algorithm chosen for a problem, and why.

    Attributes:
        algorithm: its name.
        candidates: all that are legal, by name, the cheapest first; none with ``tune="off"``.
        declined: why each of the others is not.
        source: where the seconds that decided come from.
        why: a clause for a remark.
    """

    algorithm: str
    candidates: Mapping[str, Candidate] = field(default_factory=dict)
    declined: Mapping[str, str] = field(default_factory=dict)
    source: Source = "off"
    why: str = "tuning is off"

    def costs(self) -> dict[str, float]:
        """Predicted and measured microseconds by candidate, flat, for the details of a remark."""
        found: dict[str, float] = {}
        for name, candidate in self.candidates.items():
            for what, seconds in (("predicted", candidate.predicted), ("measured", candidate.measured)):
                if seconds is not None:
                    found[f"{name}_{what}_us"] = round(seconds * 1e6, 1)
        return found

    def to_dict(self) -> dict[str, Any]:
        """JSON-safe."""
        return {
            "algorithm": self.algorithm,
            "source": self.source,
            "why": self.why,
            "candidates": {
                name: {"predicted": candidate.predicted, "measured": candidate.measured}
                for name, candidate in self.candidates.items()
            },
            "declined": dict(self.declined),
        }
