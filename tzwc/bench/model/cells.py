"""The figures of ``tzwc bench model`` for one model at one batch size, in one mode."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tzwc.bench.model.contenders import TUNED
from tzwc.util.timing import Timing, ratio

__all__ = ["Cell", "Contender", "Plan", "Yard"]


@dataclass(frozen=True)
class Plan:
    """What is measured: a model, a batch size, ``inference`` or ``training``, and a precision."""

    target: str
    batch: int
    mode: str
    precision: str = "float32"

    def __str__(self) -> str:
        narrow = "" if self.precision == "float32" else f", {self.precision}"
        return f"{self.target}, batch {self.batch}, {self.mode}{narrow}"

    def to_dict(self) -> dict[str, Any]:
        """JSON-safe."""
        return {"model": self.target, "batch": self.batch, "mode": self.mode, "precision": self.precision}


@dataclass(frozen=True)
class Contender:
    """What was found out about one contender.

    Attributes:
        name: of the contender.
        first_call: seconds of compilation and first call, from empty caches; ``None`` when they failed.
        first_memory: the most memory of that, in bytes above what the imports took.
        memory: the same of the calls afterwards.
        timing: of these, one value a round: the median of its calls.
        distances: of its results from float64, the larger of all that were compared, by name.
        note: what tzwc was able to capture.
        error: why it failed, or has no part; empty when it has.
        fit: whether it has a part in this mode.
    """

    name: str
    first_call: float | None = None
    first_memory: int | None = None
    memory: int | None = None
    timing: Timing | None = None
    distances: Mapping[str, float] = field(default_factory=dict)
    note: str = ""
    error: str = ""
    fit: bool = True

    @property
    def ours(self) -> bool:
        """Whether it is tzwc, and no peer."""
        return self.name.removesuffix(TUNED) == "tzwc"


@dataclass(frozen=True)
class Yard:
    """What the contenders are held against.

    Attributes:
        allowed: the largest distance of each kind that rounding explains.
        flops: of the eager model; see :class:`~tzwc.bench.model.reference.Arithmetic`.
        growing: likewise.
        operations: of one of the products that were timed.
        products: their timing, in the same rounds; ``None`` when it failed.
        error: why something is missing; empty when nothing is.
    """

    allowed: Mapping[str, float] = field(default_factory=dict)
    flops: int = 0
    growing: int = 0
    operations: int = 0
    products: Timing | None = None
    error: str = ""

    @property
    def speed(self) -> float | None:
        """Operations a second of matrix products, by the median."""
        return None if self.products is None else self.operations / self.products.median


@dataclass(frozen=True)
class Cell:
    """All contenders for one plan."""

    plan: Plan
    yard: Yard
    contenders: tuple[Contender, ...]

    @property
    def peer(self) -> Contender | None:
        """The fastest that is not tzwc, by the median."""
        peers = [c for c in self.contenders if c.timing is not None and not c.ours]
        return min(peers, key=lambda c: c.timing.median if c.timing else math.inf, default=None)

    def gains(self, contender: Contender) -> tuple[float, float] | None:
        """How many times faster it is than :attr:`peer`: quotient of medians, median of quotients."""
        peer = self.peer
        if contender.timing is None or peer is None or peer.timing is None:
            return None
        return peer.timing.median / contender.timing.median, ratio(peer.timing, contender.timing)

    def share(self, contender: Contender) -> float | None:
        """Of the speed of matrix products: how much of it the arithmetic of a call would need.

        In inference without what is the same in every call, which need not be computed again. Above 1 where
        something is convolved in fewer operations than directly.
        """
        if contender.timing is None or self.yard.speed is None:
            return None
        flops = self.yard.growing if self.plan.mode == "inference" else self.yard.flops
        return flops / self.yard.speed / contender.timing.median

    def agrees(self, contender: Contender) -> bool | None:
        """Whether its results are as close to float64 as rounding explains; ``None`` without a comparison."""
        if not contender.distances or not self.yard.allowed:
            return None
        return all(contender.distances[name] <= allowed for name, allowed in self.yard.allowed.items())

    def ratios(self, contender: Contender) -> dict[str, float]:
        """What tzwc takes, as a part of what others take; what cannot be said is left out."""
        plain = next((c.first_call for c in self.contenders if c.name == "compile" and c.timing), None)
        peer, found = self.peer, {}
        if peer is not None and peer.timing is not None and contender.timing is not None:
            found["time ÷ best peer's"] = contender.timing.median / peer.timing.median
        if plain and contender.first_call is not None:
            found["first call ÷ compile's"] = contender.first_call / plain
        if peer is not None and peer.memory and contender.memory is not None:
            found["memory ÷ best peer's"] = contender.memory / peer.memory
        return found

    def to_dict(self) -> dict[str, Any]:
        """JSON-safe."""
        yard = self.yard
        return {
            **self.plan.to_dict(),
            "FLOP a call": yard.flops,
            "FLOP that grow with the batch": yard.growing,
            "matrix products, GFLOP/s": _rounded(yard.speed, 1e-9),
            "allowed distance": _distances(yard.allowed),
            "best peer": None if self.peer is None else self.peer.name,
            "ratios": {c.name: {k: _rounded(v) for k, v in self.ratios(c).items()} for c in self.contenders if c.ours},
            "contenders": [self._row(contender) for contender in self.contenders],
            "error": yard.error,
        }

    def _row(self, contender: Contender) -> dict[str, Any]:
        timing, gains = contender.timing, self.gains(contender)
        return {
            "contender": contender.name,
            "milliseconds": None if timing is None else round(timing.median * 1e3, 3),
            "quartiles": None if timing is None else [round(value * 1e3, 3) for value in timing.quartiles],
            "rounds": 0 if timing is None else len(timing.seconds),
            "ratio of medians": None if gains is None else round(gains[0], 3),
            "median of ratios": None if gains is None else round(gains[1], 3),
            "share of matrix products": _rounded(self.share(contender)),
            "first call, seconds": _rounded(contender.first_call),
            "memory of the first call, MB": _rounded(contender.first_memory, 1e-6),
            "memory of a call, MB": _rounded(contender.memory, 1e-6),
            "distance from float64": _distances(contender.distances),
            "as exact as eager": self.agrees(contender),
            "note": contender.note,
            "error": contender.error,
        }


def _rounded(value: float | None, unit: float = 1.0) -> float | None:
    return None if value is None else float(f"{value * unit:.4g}")


def _distances(values: Mapping[str, float]) -> dict[str, float | None]:
    return {name: float(f"{value:.3g}") if math.isfinite(value) else None for name, value in values.items()}
