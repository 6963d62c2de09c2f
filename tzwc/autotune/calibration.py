"""Calibration: a sequence of problems measured with every algorithm in every direction, once per machine.

The problems are drawn as :mod:`tzwc.autotune.random_problems` says, small enough that a hundred fit into the time.
Every few seconds what there is so far is stored, so an interruption loses next to nothing; a later calibration that is
interrupted early does not replace a longer one.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from tzwc.autotune.cost_model import CostModel, Sample
from tzwc.autotune.fingerprint import fingerprint
from tzwc.autotune.measure import Limits, closest, measure
from tzwc.autotune.memory import too_much_memory, too_much_to_measure
from tzwc.autotune.random_problems import CALIBRATION, stream
from tzwc.autotune.timers import Timer, timer_for
from tzwc.autotune.workload import call_maker, operands, problem_from_dict, problem_to_dict
from tzwc.ops.conv import Problem, all_algorithms, legal_algorithms
from tzwc.ops.conv.problem import DIRECTIONS
from tzwc.util.disk_cache import Store, seconds_of

__all__ = [
    "Calibration",
    "Progress",
    "built_in",
    "calibrate",
    "model_for",
    "read_samples",
    "sample",
    "write_samples",
    "write_table",
]

SEED = 20
"""Of the problems; benchmarks draw from others."""

_LIMITS = Limits(seconds=0.03, factor=30.0, trifle=0.01, hopeless=20.0, rounds=3, shortest=1e-4)
_EVERY = 10.0
"""Seconds between two writes."""

Progress = Callable[[float, int], object]
"""Told the part of the time that has gone, and the number of problems measured."""


@dataclass(frozen=True)
class Calibration:
    """What was measured on one machine.

    Attributes:
        machine: its fingerprint.
        samples: problems with measured seconds.
        seconds: that it took.
        stored: whether it is remembered.
        complete: it was not interrupted.
    """

    machine: Mapping[str, Any]
    samples: Sequence[Sample]
    seconds: float
    stored: bool
    complete: bool

    def to_dict(self) -> dict[str, Any]:
        """JSON-safe."""
        return {
            "machine": dict(self.machine),
            "problems": len(self.samples),
            "measurements": sum(len(s.seconds) for s in self.samples),
            "algorithms": sorted({name for s in self.samples for name in s.seconds}),
            "seconds": round(self.seconds, 1),
            "stored": self.stored,
            "complete": self.complete,
        }


def calibrate(
    store: Store,
    *,
    device: str = "cpu",
    seconds: float = 90.0,
    progress: Progress | None = None,
    timer: Timer | None = None,
    problems: Iterator[Problem] | None = None,
) -> Calibration:
    """Measure for ``seconds``, and remember under the fingerprint of this machine.

    ``KeyboardInterrupt`` ends it early: what was measured until then is stored, unless there is more already.

    Args:
        store: where to.
        device: type of the device.
        seconds: no problem begins later.
        progress: called after every problem.
        timer: measures calls; by default that of the device.
        problems: forward problems to measure; by default drawn.
    """
    timer = timer or timer_for(device)
    facts = fingerprint(device)
    known = store.get("calibration", facts)
    enough = _count(known)
    start = written = timer.now()
    samples: list[Sample] = []
    complete = stored = False
    try:
        for forward in problems or stream(SEED, CALIBRATION):
            if timer.now() - start > seconds:
                break
            problem = forward.with_(device=device)
            for direction in DIRECTIONS:
                samples.append(sample(problem.with_(direction=direction), model_for(device), timer))
            if progress is not None:
                progress(min(1.0, (timer.now() - start) / seconds), len(samples))
            if timer.now() - written > _EVERY and len(samples) > enough:
                written = timer.now()
                store.put("calibration", facts, write_samples(samples))
        complete = True
    except KeyboardInterrupt:
        pass
    if complete or len(samples) > enough:
        stored = store.put("calibration", facts, write_samples(samples))
        model_for.cache_clear()
    return Calibration(facts, samples, timer.now() - start, stored, complete)


def sample(problem: Problem, model: CostModel, timer: Timer, limits: Limits = _LIMITS) -> Sample:
    """Measure every algorithm on one problem, but for those that ``model`` says are far too slow for it."""
    legal, _ = legal_algorithms(problem)
    native = next(iter(legal.values()))
    legal = {
        name: one
        for name, one in legal.items()
        if too_much_memory(problem, one, native, limits.memory) is None
        and not too_much_to_measure(problem, one, limits.memory)
    }
    pair = operands(problem)
    predicted = {name: model.predict(problem, name) for name in legal}
    calls = {name: call_maker(problem, legal[name], pair) for name in closest(predicted, limits)}
    return Sample(problem, measure(calls, timer, limits, predicted=predicted).seconds)


@functools.cache
def model_for(device: str) -> CostModel:
    """What comes with tzwc for a type of device."""
    return CostModel([s for s in built_in() if s.problem.device == device])


@functools.cache
def built_in() -> tuple[Sample, ...]:
    """The table that comes with tzwc."""
    text = resources.files("tzwc.autotune").joinpath("table.json").read_text(encoding="utf-8")
    return tuple(read_samples(json.loads(text)))


def write_samples(samples: Sequence[Sample]) -> dict[str, Any]:
    """JSON-safe."""
    rows = [[problem_to_dict(s.problem), {n: float(f"{t:.3g}") for n, t in s.seconds.items()}] for s in samples]
    return {"samples": rows}


def write_table(samples: Sequence[Sample], path: Path) -> None:
    """Write ``samples`` to a file such as the one that comes with tzwc: a line for each."""
    lines = (json.dumps(row, separators=(",", ":")) for row in write_samples(samples)["samples"])
    path.write_text('{"samples":[\n' + ",\n".join(lines) + "\n]}\n", encoding="utf-8")


def read_samples(found: object) -> list[Sample]:
    """The opposite of :func:`write_samples`, for what may come from anywhere; algorithms that are unknown are left out.

    Raises:
        ValueError: it is something else.
    """
    if not isinstance(found, dict) or not isinstance(found.get("samples"), list):
        raise ValueError("holds no samples")
    samples = []
    for row in found["samples"]:
        if not isinstance(row, list) or len(row) != 2:
            raise ValueError("holds a sample that is none")
        seconds = {name: s for name, s in seconds_of(row[1]).items() if name in all_algorithms()}
        samples.append(Sample(problem_from_dict(row[0]), seconds))
    return samples


def _count(found: object) -> int:
    """Samples in what a store gave."""
    samples = found.get("samples") if isinstance(found, dict) else None
    return len(samples) if isinstance(samples, list) else 0
