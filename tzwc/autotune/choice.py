"""Choose the algorithm for one convolution: legality, prediction, measurement of close candidates, memory."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal, get_args

from tzwc.autotune.calibration import model_for, read_samples
from tzwc.autotune.candidates import Candidate, Choice, Source
from tzwc.autotune.cost_model import CostModel
from tzwc.autotune.facts import establish
from tzwc.autotune.fingerprint import fingerprint
from tzwc.autotune.measure import Limits, Outcome, closest, measure
from tzwc.autotune.memory import too_much_memory, too_much_to_measure
from tzwc.autotune.ranks import same_on_all_ranks
from tzwc.autotune.timers import Timer, timer_for
from tzwc.autotune.workload import as_measured, call_maker, operands, problem_to_dict
from tzwc.errors import InvalidArgumentError
from tzwc.ops.conv import Algorithm, Problem, all_algorithms, legal_algorithms
from tzwc.util.argument_checks import examined, shown
from tzwc.util.disk_cache import Store, seconds_of
from tzwc.util.modes import undisturbed

__all__ = ["Candidate", "Choice", "Source", "Tune", "choose"]

Tune = Literal["measure", "model", "off"]

MARGIN = 1.1
"""Without measuring, an algorithm replaces ``native`` when it is predicted to be faster by this factor."""

ERRORS: Mapping[Source, float] = {"built-in": 12.0, "calibrated": 6.0}
"""Factors by which predictions may be wrong: calibrated ones by three times the spread of the model, e^(3 · 0.6); those
of the table that comes with tzwc are of another machine, and twice as wrong."""

SLOWEST: Mapping[str, float] = {"cpu": 1e8}
SLOWEST_ELSEWHERE = 1e11
"""Operations per second, in the direct form, below which a candidate without a prediction is not expected to fall. (A
depthwise convolution with 16,383 taps does 2e8 on a busy CPU.)"""


def choose(
    problem: Problem,
    *,
    tune: Tune = "measure",
    exact: bool = False,
    store: Store | None = None,
    limits: Limits | None = None,
    timer: Timer | None = None,
) -> Choice:
    """The fastest algorithm for ``problem``, in its one direction.

    Trouble with files, or with a candidate that cannot be run, never raises: it is said in a
    :class:`~tzwc.util.disk_cache.TuningWarning` or in :attr:`Choice.declined`.

    Args:
        problem: what to compute.
        tune: ``"off"``: ``native``; nothing is read, measured or written. ``"model"``: by prediction; the calibration
            of this machine is read where there is one, nothing is written. ``"measure"``: what was remembered, or
            else the candidates that are predicted to be close are measured, and the result is remembered.
        exact: only algorithms with :attr:`tzwc.ops.conv.Algorithm.exact`.
        store: where measurements are remembered; by default the user's cache directory.
        limits: what a measurement may cost; by default half a second.
        timer: measures calls; by default that of the device.

    Raises:
        InvalidArgumentError: ``tune`` is unknown, or no algorithm can compute ``problem``.
    """
    with examined("tune"):
        if not isinstance(tune, str) or tune not in get_args(Tune):
            raise InvalidArgumentError(f"tune={shown(tune)} is unknown; choose one of {', '.join(get_args(Tune))}")
    problem = as_measured(problem)
    legal, declined = legal_algorithms(problem, exact=exact)
    if not legal:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in declined.items())
        raise InvalidArgumentError(f"no algorithm can compute this convolution: {reasons}")
    if tune == "off":
        return Choice(next(iter(legal)), declined=declined)
    with undisturbed():
        return _choose(problem, tune, legal, declined, store or Store(), limits or Limits(), timer)


def _choose(
    problem: Problem,
    tune: Tune,
    legal: dict[str, Algorithm],
    declined: dict[str, str],
    store: Store,
    limits: Limits,
    timer: Timer | None,
) -> Choice:
    native = next(iter(legal))
    reasons = {name: too_much_memory(problem, one, legal[native], limits.memory) for name, one in legal.items()}
    declined |= {name: reason for name, reason in reasons.items() if reason is not None}
    legal = {name: one for name, one in legal.items() if reasons[name] is None} or {native: legal[native]}
    native = next(iter(legal))
    if len(legal) == 1:
        return Choice(native, {native: Candidate(None)}, declined, "built-in", "there is no other candidate")
    facts = fingerprint(problem.device)
    model, source = _model(store, facts, problem.device)
    predicted = {name: model.predict(problem, name) for name in legal}
    if tune == "model" or problem.batch == 0:
        return _by_model(native, predicted, declined, source)
    key = {"machine": facts, "problem": problem_to_dict(problem), "algorithms": sorted(legal)}
    finding = establish(
        store,
        "choice",
        key,
        read=lambda: _recall(store, key, legal),
        measure=lambda: _measure(problem, legal, predicted, limits, timer or timer_for(problem.device)),
        write=_written,
        contradiction=lambda outcome: _contradiction(predicted, outcome, ERRORS[source]),
    )
    outcome = finding.value
    if outcome is None or outcome.winner is None:
        failed = {} if outcome is None else outcome.failed
        choice = _by_model(native, predicted, {**declined, **failed}, source)
    else:
        how: Source = "remembered" if finding.remembered else "measured"
        choice = _by_measurement(native, predicted, declined, outcome, how, limits)
    if finding.doubt:
        rest = "to be measured later" if outcome is None else "to be measured again"
        choice = replace(choice, why=f"{choice.why}; {rest}: {finding.doubt}")
    asked = {"problem": key["problem"], "algorithms": key["algorithms"]}  # whatever the machine of each rank
    agreed = same_on_all_ranks(asked, choice.algorithm, choice.candidates)
    return choice if agreed == choice.algorithm else replace(choice, algorithm=agreed, why="chosen by another rank")


def _written(outcome: Outcome) -> tuple[dict[str, Any], Mapping[str, float]] | None:
    if outcome.winner is None:
        return None
    stored = {"seconds": outcome.seconds, "winner": outcome.winner, "failed": outcome.failed}
    return stored, outcome.seconds


def _contradiction(predicted: Mapping[str, float | None], outcome: Outcome, error: float) -> str | None:
    """Which candidate took far longer, or far less, than predicted."""
    for name, seconds in outcome.seconds.items():
        expected = predicted.get(name)
        if expected is not None and not 1 / error < seconds / expected < error:
            return f"{name} was measured at {_text(seconds)} and predicted at {_text(expected)}"
    return None


def _measure(
    problem: Problem,
    legal: Mapping[str, Algorithm],
    predicted: Mapping[str, float | None],
    limits: Limits,
    timer: Timer,
) -> Outcome:
    small = {n: t for n, t in predicted.items() if not too_much_to_measure(problem, legal[n], limits.memory)}
    if problem.flops > limits.longest * SLOWEST.get(problem.device, SLOWEST_ELSEWHERE):  # nobody can be cut short
        small = {name: seconds for name, seconds in small.items() if seconds is not None}
    if not closest(small, limits):
        return Outcome()
    try:
        pair = operands(problem)
    except (RuntimeError, MemoryError):  # not even the operands fit: predictions remain
        return Outcome()
    calls = {name: call_maker(problem, legal[name], pair) for name in closest(small, limits)}
    return measure(calls, timer, limits, ranking=tuple(all_algorithms()), predicted=small)


def _by_model(
    native: str, predicted: Mapping[str, float | None], declined: Mapping[str, str], source: Source
) -> Choice:
    candidates = {name: Candidate(seconds) for name, seconds in predicted.items() if name not in declined}
    ordered = _ordered(candidates)
    best = next(iter(ordered), native)
    plain = candidates.get(native, Candidate(None))
    if plain.predicted is None or candidates[best].seconds * MARGIN > plain.predicted:
        why = (
            "nothing is known about it" if plain.predicted is None else "no candidate is predicted to be clearly faster"
        )
        return Choice(native, ordered, declined, source, why)
    why = f"predicted {_text(candidates[best].seconds)}, {_gain(plain.predicted, candidates[best].seconds)} {native}"
    return Choice(best, ordered, declined, source, why)


def _by_measurement(
    native: str,
    predicted: Mapping[str, float | None],
    declined: Mapping[str, str],
    outcome: Outcome,
    source: Source,
    limits: Limits,
) -> Choice:
    candidates = {
        name: Candidate(seconds, outcome.seconds.get(name))
        for name, seconds in predicted.items()
        if name not in outcome.failed
    }
    winner = outcome.winner
    assert winner is not None
    ordered = _ordered(candidates)
    seconds = outcome.seconds[winner]
    fastest = min(outcome.seconds, key=lambda name: outcome.seconds[name])
    if fastest != winner:
        why = f"measured {_text(seconds)}, within {limits.tie:.0%} of {fastest}, the fastest"
    elif winner == native:
        others = [name for name in outcome.seconds if name != native]
        why = f"measured {_text(seconds)}, the fastest of {1 + len(others)}"
    elif native in outcome.seconds:
        why = f"measured {_text(seconds)}, {_gain(outcome.seconds[native], seconds)} {native}"
    else:
        slow = predicted.get(native)
        why = f"measured {_text(seconds)}" + ("" if slow is None else f"; {native} is predicted to take {_text(slow)}")
    return Choice(winner, ordered, {**declined, **outcome.failed}, source, why)


def _recall(store: Store, key: Mapping[str, Any], legal: Mapping[str, Algorithm]) -> Outcome | None:
    found = store.get("choice", key)
    if found is None:
        return None
    try:
        seconds = seconds_of(found.get("seconds") if isinstance(found, dict) else None)
        failed = {str(name): str(reason) for name, reason in dict(found["failed"]).items()}
        winner = found["winner"]
        if winner not in seconds or not seconds.keys() | failed.keys() <= legal.keys():
            raise ValueError("names algorithms that were not measured")
    except (ValueError, TypeError, KeyError) as error:
        store.refuse("choice", key, str(error))
        return None
    return Outcome(seconds, winner, failed)


_models: dict[tuple[str, int], CostModel] = {}
_lock = threading.Lock()


def _model(store: Store, facts: Mapping[str, Any], device: str) -> tuple[CostModel, Source]:
    """The model of this machine, or else the one that comes with tzwc."""
    stamp = store.stamp("calibration", facts)
    if stamp is None:
        return model_for(device), "built-in"
    with _lock:
        if stamp in _models:
            return _models[stamp], "calibrated"
        found = store.get("calibration", facts)
        if found is None:
            return model_for(device), "built-in"
        try:
            samples = read_samples(found)
        except ValueError as error:
            store.refuse("calibration", facts, str(error))
            return model_for(device), "built-in"
        _models.clear()  # an older calibration is of no use any more
        _models[stamp] = CostModel(samples, model_for(device))
        return _models[stamp], "calibrated"


def _ordered(candidates: Mapping[str, Candidate]) -> dict[str, Candidate]:
    return dict(sorted(candidates.items(), key=lambda item: (item[1].measured is None, item[1].seconds)))


def _text(seconds: float) -> str:
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e6:.3g} µs"


def _gain(slow: float, fast: float) -> str:
    return f"{slow / fast:.3g}× faster than" if slow > fast else f"{fast / slow:.3g}× slower than"
