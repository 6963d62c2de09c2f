"""``tzwc bench convolution``: how good the choice is, on convolutions drawn from a seed.

**Regret** is the time of the chosen algorithm divided by that of the best candidate, each by itself, summed over the
directions of a case. The candidates take turns in one process, and medians are compared; "again" is the chosen one as a
further contender, so that its distance from itself shows the noise. With one thread the clock is that of the thread,
see :mod:`tzwc.autotune.timers`.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from tzwc.autotune.fingerprint import fingerprint
from tzwc.bench.convolution.cases import FIXED, Case, draw_cases
from tzwc.bench.convolution.compiled import compare, compare_fixed
from tzwc.bench.convolution.memory import peak_by_algorithm
from tzwc.bench.convolution.regret import ANCHORS, Settings, measure_case
from tzwc.bench.journal import Journal
from tzwc.errors import InvalidArgumentError
from tzwc.lowering.backend import check_backend
from tzwc.util.disk_cache import Store

__all__ = ["ConvolutionBench", "Request", "run"]

Say = Callable[[str], object]


@dataclass(frozen=True)
class Request:
    """What to measure.

    Attributes:
        cases: how many are drawn.
        seed: of the drawing.
        rounds: of each measurement.
        compile_sample: how many of the drawn cases, evenly spread, are compared with ``torch.compile``.
        fixed: compare the four fixed points with ``torch.compile``.
        memory: how many cases with gradients have their peak memory measured.
        backend: of ``torch.compile``.
        out: a file for one line of JSON for each measurement, written at once; what it holds already for the same seed,
            machine and rounds is not measured again.

    Raises:
        InvalidArgumentError: on construction, for a value that cannot be used.
    """

    cases: int = 300
    seed: int = 1
    rounds: int = 15
    compile_sample: int = 0
    fixed: bool = True
    memory: int = 20
    backend: str = "inductor"
    out: Path | None = None

    def __post_init__(self) -> None:
        for name, least in (("cases", 1), ("rounds", 2), ("compile_sample", 0), ("memory", 0)):
            if getattr(self, name) < least:
                raise InvalidArgumentError(f"{name}={getattr(self, name)!r} must be at least {least}")
        check_backend(self.backend)

    @property
    def identity(self) -> dict[str, Any]:
        """What lines of a file must agree in to belong to the same measurement."""
        return {"seed": self.seed, "rounds": self.rounds, "backend": self.backend, "machine": fingerprint()}


@dataclass
class ConvolutionBench:
    """What was measured: the records, in the order in which they were made."""

    request: Request
    cases: list[dict[str, Any]] = field(default_factory=list)
    fixed: list[dict[str, Any]] = field(default_factory=list)
    compiled: list[dict[str, Any]] = field(default_factory=list)
    memory: list[dict[str, Any]] = field(default_factory=list)

    def regrets(self, rule: str) -> list[float]:
        """Regret of each case; ``rule`` is ``"measure"``, ``"model"``, ``"again"`` or one of the anchors."""
        return [regret(case, rule) for case in self.cases]

    def summary(self) -> dict[str, Any]:
        """Distributions, and whether the goals are met."""
        rules = ("measure", "model", "again", *ANCHORS)
        found: dict[str, Any] = {rule: distribution(self.regrets(rule)) for rule in rules if self.cases}
        ratios = [row["ratio"] for row in (*self.fixed, *self.compiled)]
        if ratios:
            found["against torch.compile"] = {"least": round(min(ratios), 3), "cases": len(ratios)}
        found["goals"] = self.goals()
        return found

    def goals(self) -> dict[str, bool]:
        """What was asked for, as far as it was measured."""
        met: dict[str, bool] = {}
        if self.cases:
            measured = distribution(self.regrets("measure"))
            met |= {"p95 ≤ 1.10": measured["p95"] <= 1.10, "max ≤ 1.25": measured["max"] <= 1.25}
        met |= {f"{row['name']} ≥ {row['goal']:g}×": row["ratio"] >= row["goal"] for row in self.fixed}
        if self.compiled:
            met["never below 0.95×"] = min(row["ratio"] for row in self.compiled) >= 0.95
        return met

    def to_dict(self) -> dict[str, Any]:
        """JSON-safe."""
        return self.request.identity | {
            "summary": self.summary(),
            "fixed": self.fixed,
            "compiled": self.compiled,
            "memory": self.memory,
            "cases": self.cases,
        }


def regret(case: dict[str, Any], rule: str) -> float:
    """Chosen time over best time, both summed over the directions of a case.

    What a rule takes may not have been timed, being predicted to be far too slow: then the prediction counts.
    """
    chosen = best = 0.0
    for row in case["directions"]:
        seconds = row["not timed"] | row["seconds"]
        if rule == "again":
            chosen, best = chosen + row["again"], best + seconds[row["measure"]]
            continue
        name = row[rule] if rule in row else row["anchors"][rule]
        chosen, best = chosen + seconds[name], best + row["seconds"][row["best"]]
    return chosen / best


def distribution(values: list[float]) -> dict[str, float]:
    """Percentiles (the nearest rank), the largest and the mean."""
    ordered = sorted(values)
    ranks = {f"p{p}": ordered[math.ceil(p / 100 * len(ordered)) - 1] for p in (50, 90, 95)}
    found = ranks | {"max": ordered[-1], "mean": sum(ordered) / len(ordered)}
    return {name: round(value, 3) for name, value in found.items()}


def run(request: Request, say: Say = lambda _: None, settings: Settings | None = None) -> ConvolutionBench:
    """Measure.

    Args:
        request: what.
        say: told what is being done, a line at a time.
        settings: of the measurement of each case; the request's rounds replace theirs.
    """
    settings = settings or Settings(rounds=request.rounds)
    bench = ConvolutionBench(request)
    journal = Journal(request.out, request.identity)
    drawn = draw_cases(request.seed, request.cases)
    with _own_store() as store:
        for case in drawn:
            say(f"case {case.number + 1} of {request.cases}")
            bench.cases.append(journal.once("case", case.number, partial(measure_case, case, store, settings)))
        against: dict[str, Any] = {"store": store, "rounds": request.rounds, "backend": request.backend}
        for number in range(len(FIXED) if request.fixed else 0):
            say(f"fixed point {number + 1} of {len(FIXED)}, against torch.compile")
            bench.fixed.append(journal.once("fixed", number, partial(compare_fixed, number, **against)))
        for case in _spread(drawn, request.compile_sample):
            say(f"case {case.number + 1} against torch.compile")
            measure = partial(compare, case.problem, case.backward, **against)
            bench.compiled.append({"case": case.number} | journal.once("compiled", case.number, measure))
        for case in [case for case in drawn if case.backward][: request.memory]:
            say(f"memory of case {case.number + 1}")
            measure = partial(_memory, case, bench.cases[case.number])
            bench.memory.append(journal.once("memory", case.number, measure))
    return bench


def _memory(case: Case, record: dict[str, Any]) -> dict[str, Any]:
    rows = record["directions"]
    names = [name for name in rows[0]["seconds"] if all(name in row["seconds"] for row in rows)]
    return {"case": case.number, "problem": record["problem"], "peak bytes": peak_by_algorithm(case.problem, names)}


def _spread(cases: list[Case], count: int) -> list[Case]:
    count = min(count, len(cases))
    return [cases[i * len(cases) // count] for i in range(count)]


@contextmanager
def _own_store() -> Iterator[Store]:
    """A store with the calibration of this machine and no choices: each is made anew."""
    facts = fingerprint()
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder))
        calibration = Store().get("calibration", facts)
        if calibration is not None:
            store.put("calibration", facts, calibration)
        yield store
