"""How far the chosen algorithm is from the best one: every candidate and the choice, in turns, in one process."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tzwc.autotune.choice import Choice, choose
from tzwc.autotune.measure import MOST_CALLS
from tzwc.autotune.timers import Call, Timer, timer_for
from tzwc.autotune.workload import as_measured, call_maker, operands, problem_to_dict
from tzwc.bench.convolution.cases import Case
from tzwc.ops.conv import Problem, legal_algorithms
from tzwc.util.disk_cache import Store
from tzwc.util.modes import undisturbed

__all__ = ["ANCHORS", "Settings", "measure_case", "time_in_turns"]

THRESHOLD = 64
"""Taps above which the simplest of rules takes an FFT."""


@dataclass(frozen=True)
class Settings:
    """How to measure.

    Attributes:
        rounds: of each candidate.
        seconds: for the candidates of one direction; two rounds are made in any case.
        far: a candidate predicted to take this many times the best prediction…
        long: …and more than this many seconds is not timed; one that turns out so is called once.
        shortest: seconds of one sample: faster candidates are called several times for it.
    """

    rounds: int = 15
    seconds: float = 4.0
    far: float = 20.0
    long: float = 0.2
    shortest: float = 2e-3


def measure_case(case: Case, store: Store, settings: Settings) -> dict[str, Any]:
    """Everything about one case; JSON-safe."""
    return {
        "case": case.number,
        "problem": problem_to_dict(case.problem),
        "backward": case.backward,
        "directions": [_measure(problem, store, settings) for problem in case.directions],
    }


def _measure(problem: Problem, store: Store, settings: Settings) -> dict[str, Any]:
    problem = as_measured(problem)
    start = time.perf_counter()
    chosen = choose(problem, tune="measure", store=store)
    spent = time.perf_counter() - start
    modelled = choose(problem, tune="model", store=store)
    legal, declined = legal_algorithms(problem)
    predicted = {name: found.predicted for name, found in modelled.candidates.items()}
    timed, skipped = _worth_timing(predicted, chosen, settings)
    pair = operands(problem)
    with undisturbed():
        calls = {name: call_maker(problem, legal[name], pair)() for name in timed}
        again = f"{chosen.algorithm} again"
        calls[again] = calls[chosen.algorithm]
        seconds = time_in_turns(calls, timer_for(problem.device), settings)
    repeated = seconds.pop(again)
    best = min(seconds, key=lambda name: seconds[name])
    return {
        "direction": problem.direction,
        "seconds": seconds,
        "predicted": predicted,
        "not timed": skipped,
        "declined": declined | dict(chosen.declined),
        "best": best,
        "measure": chosen.algorithm,
        "model": modelled.algorithm,
        "anchors": {name: rule(problem, tuple(predicted)) for name, rule in ANCHORS.items()},
        "again": repeated,
        "choosing took": round(spent, 4),
    }


def _worth_timing(
    predicted: Mapping[str, float | None], chosen: Choice, settings: Settings
) -> tuple[list[str], dict[str, float]]:
    known = {name: seconds for name, seconds in predicted.items() if seconds is not None}
    best = min(known.values(), default=math.inf)
    skipped = {n: s for n, s in known.items() if s > settings.far * best and s > settings.long}
    skipped.pop(chosen.algorithm, None)
    return [name for name in predicted if name not in skipped], skipped


def time_in_turns(calls: Mapping[str, Call], timer: Timer, settings: Settings) -> dict[str, float]:
    """Median seconds of each call over the rounds; those that are far slower than the best have fewer."""
    samples: dict[str, list[float]] = {}
    counts: dict[str, int] = {}
    best = math.inf
    for name, call in calls.items():
        first = timer.time(call, 1)
        hopeless = first > settings.long and first > settings.far * best
        warm = first if hopeless else timer.time(call, 1)
        best = min(best, warm)
        counts[name] = 0 if hopeless else min(MOST_CALLS, max(1, round(settings.shortest / warm)))
        samples[name] = [first] if hopeless else []
    order = [name for name in calls if counts[name]]
    end = timer.now() + settings.seconds
    for done in range(settings.rounds):
        if done >= 2 and timer.now() > end:
            break
        for name in order:
            samples[name].append(timer.time(calls[name], counts[name]))
        order.append(order.pop(0))  # no candidate always follows the same one
        if done == 1:  # a candidate at three times the best decides nothing
            least = {name: min(samples[name]) for name in order}
            order = [name for name in order if least[name] < 3 * min(least.values())]
    return {name: statistics.median(values) for name, values in samples.items()}


def _native(_: Problem, names: tuple[str, ...]) -> str:
    return "native" if "native" in names else names[0]


def _fft(problem: Problem, names: tuple[str, ...]) -> str:
    return "fft" if "fft" in names else _native(problem, names)


def _threshold(problem: Problem, names: tuple[str, ...]) -> str:
    return (_fft if math.prod(problem.kernel) > THRESHOLD else _native)(problem, names)


def _operations(problem: Problem, names: tuple[str, ...]) -> str:
    """The count of operations alone, as SciPy compares them before its constants."""
    n = math.prod(s + k - 1 for s, k in zip(problem.lengths, problem.kernel, strict=True))
    kernels = problem.out_channels * (problem.batch if problem.per_sample else problem.fan_in)
    rows = problem.batch * (problem.in_channels + problem.out_channels) + kernels
    products = 4.0 * n * problem.batch * problem.out_channels * problem.fan_in
    transforms = 2.5 * rows * n * max(math.log2(n), 1.0) + products
    return (_fft if transforms < problem.flops else _native)(problem, names)


ANCHORS = {"native": _native, "fft": _fft, "threshold": _threshold, "operations": _operations}
"""Simple rules to compare with: always native, always FFT, FFT above a number of taps, and by counting operations."""
