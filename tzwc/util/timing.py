"""Measure callables against each other on a machine that is not quiet.

The contenders take turns within one process: whatever slows the machine down meets all of them, and a ratio is taken
between neighbours in time before anything is averaged. Medians then leave out the rounds that were disturbed.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from tzwc.errors import InvalidArgumentError

__all__ = ["Timing", "interleave", "ratio"]


@dataclass(frozen=True)
class Timing:
    """What one contender took.

    Attributes:
        name: of the contender.
        seconds: time of one call in every round, in order.
    """

    name: str
    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """Median over the rounds, in seconds."""
        return statistics.median(self.seconds)

    @property
    def quartiles(self) -> tuple[float, float]:
        """First and third quartile over the rounds, in seconds."""
        return _quartiles(self.seconds)


def interleave(
    contenders: Mapping[str, Callable[[], object]],
    *,
    rounds: int = 25,
    shortest: float = 0.02,
    longest: float = 60.0,
    warm_up: int = 2,
    clock: Callable[[Callable[[], object], int], float] | None = None,
) -> list[Timing]:
    """Time every contender once a round.

    Args:
        contenders: what to call, by name.
        rounds: how many rounds, at most.
        shortest: a contender that is faster than this many seconds is called several times a round.
        longest: no round begins after this many seconds, warm-up included; two rounds are always made.
        warm_up: calls of every contender before the first round; compilation belongs in front of this function.
        clock: seconds of one of so many calls in a row; by default elapsed time, which a GPU does not keep to.

    Returns:
        One timing for each contender, in the given order.
    """
    if rounds < 2 or warm_up < 1:
        raise InvalidArgumentError(f"rounds={rounds!r} and warm_up={warm_up!r} must be at least 2 and 1")
    end = time.perf_counter() + longest
    clock = clock or _time
    calls = {name: _calls(call, warm_up, shortest, clock) for name, call in contenders.items()}
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    order = list(contenders)
    with _no_collection():
        for done in range(rounds):
            if done >= 2 and time.perf_counter() > end:
                break
            for name in order:
                seconds[name].append(clock(contenders[name], calls[name]))
            order.append(order.pop(0))  # no contender always follows the same one
    return [Timing(name, tuple(values)) for name, values in seconds.items()]


def ratio(slow: Timing, fast: Timing) -> float:
    """How many times faster ``fast`` is: the median over rounds of the quotient within the round."""
    return statistics.median(a / b for a, b in zip(slow.seconds, fast.seconds, strict=True))


def _calls(
    call: Callable[[], object], warm_up: int, shortest: float, clock: Callable[[Callable[[], object], int], float]
) -> int:
    best = min(clock(call, 1) for _ in range(warm_up))
    return max(1, round(shortest / best))


def _time(call: Callable[[], object], times: int) -> float:
    start = time.perf_counter()
    for _ in range(times):
        call()
    return (time.perf_counter() - start) / times


def _quartiles(values: tuple[float, ...]) -> tuple[float, float]:
    first, _, third = statistics.quantiles(values, n=4, method="inclusive")
    return first, third


@contextmanager
def _no_collection() -> Iterator[None]:
    """Keep the garbage collector out of the measured intervals."""
    enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
