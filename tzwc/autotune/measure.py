"""Measure candidates against each other, within a budget, on a machine that may be busy with something else.

1. **One look.** Every candidate is called a few times, the one predicted to be the fastest first. Whoever takes several
   times as long as the best so far is not called again, and at once where a call is expensive.
2. **Rounds.** The others take turns, in another order each round: a disturbance meets all of them. After a few
   rounds whoever is clearly behind drops out, so that the time goes to those that are close.
3. **Decision** by the first quartile over the rounds, which a disturbance of half of them leaves as it is. Candidates
   within a few per cent of the fastest are equal, and of equal ones the first registered wins: ``native`` before all
   others.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from tzwc.autotune.timers import Call, Timer
from tzwc.util.modes import undisturbed

__all__ = ["Limits", "Outcome", "closest", "measure"]


MOST_CALLS = 200
"""In one sample, whatever a clock said of the calls before."""


@dataclass(frozen=True)
class Limits:
    """How much a choice may cost.

    Attributes:
        seconds: for all candidates of one problem; a single call cannot be cut short…
        longest: …so none is made that is predicted to end later than this many seconds after the start…
        patience: …unless that is within this many times the fastest so far.
        factor: a candidate predicted to take this many times the best prediction is not measured…
        trifle: …unless two calls of it are predicted to take no more seconds than this.
        hopeless: a candidate whose first calls take this many times the best takes no part in the rounds.
        tie: candidates within this part of the fastest are equal.
        rounds: at most.
        shortest: seconds of one sample: faster candidates are called several times for it.
        memory: bytes that a candidate may need, when it is measured beyond its operands.
    """

    seconds: float = 0.5
    longest: float = 2.0
    patience: float = 20.0
    factor: float = 4.0
    trifle: float = 0.2
    hopeless: float = 4.0
    tie: float = 0.03
    rounds: int = 40
    shortest: float = 5e-4
    memory: float = 1.0 * 2**30


@dataclass
class Outcome:
    """What was measured.

    Attributes:
        seconds: of one call, by name; of a candidate that was dropped early, from the few calls it had.
        winner: the name chosen; ``None`` when no candidate ran.
        failed: why a candidate could not be run, by name.
        tied: those as fast as the winner, within :attr:`Limits.tie`.
    """

    seconds: dict[str, float] = field(default_factory=dict)
    winner: str | None = None
    failed: dict[str, str] = field(default_factory=dict)
    tied: tuple[str, ...] = ()


def closest(predicted: Mapping[str, float | None], limits: Limits) -> list[str]:
    """Whom to measure, the most promising first: those predicted close to the best, cheap ones, and unknown ones.

    ``native`` is always among them unless one call of it is predicted to take longer than the whole budget and many
    times as long as the best. A call predicted to take longer than :attr:`Limits.longest` is made of nobody.
    """
    known = {name: seconds for name, seconds in predicted.items() if seconds is not None}
    best = min(known.values(), default=0.0)

    def worth(name: str, seconds: float | None) -> bool:
        if seconds is not None and seconds > limits.longest:
            return False
        if seconds is None or seconds <= best * limits.factor or 2 * seconds <= limits.trifle:
            return True
        return name == "native" and (seconds <= limits.seconds or seconds <= best * limits.factor**2)

    kept = [name for name, seconds in predicted.items() if worth(name, seconds)]
    return sorted(kept, key=lambda name: known.get(name, float("inf")))


def measure(
    candidates: Mapping[str, Callable[[], Call]],
    timer: Timer,
    limits: Limits,
    *,
    ranking: tuple[str, ...] = ("native",),
    predicted: Mapping[str, float | None] | None = None,
) -> Outcome:
    """Time ``candidates`` and choose.

    Args:
        candidates: for each name what makes its call, with all that is not to be timed; the most promising first.
        timer: measures calls.
        limits: the budget, and what counts as slow and as equal.
        ranking: whom to prefer among equals.
        predicted: seconds of one call, by name: for want of a measurement they say whether there is time for it.
    """
    outcome = Outcome()
    end = timer.now() + limits.seconds
    with undisturbed():
        calls = _first_look(candidates, timer, limits, end, outcome, predicted or {})
        if outcome.seconds:
            _rounds(calls, timer, limits, end, outcome)
            _decide(outcome, limits, ranking)
    return outcome


def _first_look(
    candidates: Mapping[str, Callable[[], Call]],
    timer: Timer,
    limits: Limits,
    end: float,
    outcome: Outcome,
    predicted: Mapping[str, float | None],
) -> dict[str, Call]:
    """Call everyone, and return those that are worth more: the first call of all pays for set-up, so it is not all."""
    calls: dict[str, Call] = {}
    best, start = float("inf"), timer.now()
    for name, make in candidates.items():
        allowed = max(limits.longest, limits.patience * best if outcome.seconds else 0.0)
        if timer.now() - start + (predicted.get(name) or 0.0) > allowed:
            continue
        try:
            call = make()
            seconds = _look(call, best, timer, limits, end)
        except (RuntimeError, MemoryError) as error:  # no memory, or no kernel for this: the others may have one
            outcome.failed[name] = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
            continue
        outcome.seconds[name], calls[name] = seconds, call
        best = min(best, seconds)
    return {name: call for name, call in calls.items() if outcome.seconds[name] < best * limits.hopeless}


def _look(call: Call, best: float, timer: Timer, limits: Limits, end: float) -> float:
    """The least of up to four calls: one pays for set-up, any may be disturbed, and slow ones are not repeated."""
    seconds = timer.time(call, 1)
    for more in range(3):
        expensive = seconds > limits.seconds / 20 and seconds > best * limits.hopeless
        enough = more > 0 and seconds < best * limits.hopeless / 2
        if expensive or enough or timer.now() + seconds > end:
            break
        seconds = min(seconds, timer.time(call, 1))
    return seconds


def _rounds(calls: dict[str, Call], timer: Timer, limits: Limits, end: float, outcome: Outcome) -> None:
    samples: dict[str, list[float]] = {name: [] for name in calls}
    order = list(calls)
    for done in range(limits.rounds):
        if len(order) < 2:
            break
        for name in order:
            seconds = min(samples[name], default=outcome.seconds[name])
            if timer.now() + seconds > end:
                break
            samples[name].append(timer.time(calls[name], min(MOST_CALLS, max(1, round(limits.shortest / seconds)))))
        else:
            order = _still_close(order, samples, outcome.seconds) if done >= 3 else order
            order.append(order.pop(0))  # no candidate always follows the same one
            continue
        break
    for name, values in samples.items():
        if len(values) > 1 or (values and values[0] < outcome.seconds[name]):
            outcome.seconds[name] = _quartile(values)


def _still_close(order: list[str], samples: Mapping[str, list[float]], seen: Mapping[str, float]) -> list[str]:
    """Those that may still win, by one of two statistics: the more rounds, the closer they have to be."""
    margin = 1.25 if len(samples[order[0]]) < 8 else 1.1
    typical = {name: _quartile(samples[name]) for name in order}
    least = {name: min(seen[name], *samples[name]) for name in order}
    best, least_best = min(typical.values()), min(least.values())
    return [name for name in order if typical[name] < best * margin or least[name] < least_best * margin]


def _quartile(values: list[float]) -> float:
    if len(values) < 3:
        return min(values)
    return statistics.quantiles(values, n=4, method="inclusive")[0]


def _decide(outcome: Outcome, limits: Limits, ranking: tuple[str, ...]) -> None:
    fastest = min(outcome.seconds.values())
    equal = [name for name, seconds in outcome.seconds.items() if seconds <= fastest * (1 + limits.tie)]
    places = {name: place for place, name in enumerate(ranking)}
    equal.sort(key=lambda name: (places.get(name, len(places)), outcome.seconds[name]))
    outcome.winner, outcome.tied = equal[0], tuple(equal[1:])
