"""Calibration on a fake clock, samples in files, and predictions from them."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import tzwc.autotune.calibration
from tzwc.autotune.calibration import built_in, calibrate, model_for, read_samples, write_samples
from tzwc.autotune.cost_model import CostModel, Sample
from tzwc.autotune.fingerprint import describe, fingerprint
from tzwc.autotune.random_problems import BENCHMARK, CALIBRATION, draw, stream
from tzwc.autotune.workload import operands, problem_from_dict, problem_to_dict
from tzwc.ops.conv import Problem, find_algorithm
from tzwc.util.disk_cache import Store


class Ticking:
    """Every problem takes a second."""

    def __init__(self) -> None:
        self.clock = 0.0

    def time(self, *_: object) -> float:
        raise AssertionError

    def now(self) -> float:
        return self.clock


@pytest.fixture
def ticking(monkeypatch: pytest.MonkeyPatch) -> Ticking:
    timer = Ticking()

    def sample(problem: Problem, _model: CostModel, clock: Ticking) -> Sample:
        clock.clock += 1
        return Sample(problem, {"native": 1e-3})

    monkeypatch.setattr(tzwc.autotune.calibration, "sample", sample)
    return timer


def test_as_many_problems_as_the_time_allows(ticking: Ticking) -> None:
    told: list[tuple[float, int]] = []
    found = calibrate(Store(), seconds=30, timer=ticking, progress=lambda part, count: told.append((part, count)))
    assert found.complete
    assert found.stored
    assert len(found.samples) == 33  # a problem has three directions, and is finished
    assert told[-1] == (1.0, 33)
    assert len(read_samples(Store().get("calibration", fingerprint()))) == 33


def interrupted(after: int) -> Iterator[Problem]:
    yield from itertools.islice(stream(0, CALIBRATION), after)
    raise KeyboardInterrupt


def test_an_interruption_keeps_what_there_is_unless_there_was_more(ticking: Ticking) -> None:
    first = calibrate(Store(), timer=ticking, problems=interrupted(4))
    assert not first.complete
    assert first.stored
    assert not calibrate(Store(), timer=ticking, problems=interrupted(2)).stored
    assert len(read_samples(Store().get("calibration", fingerprint()))) == 12
    assert calibrate(Store(), timer=ticking, problems=interrupted(5)).stored
    assert not calibrate(Store(), timer=ticking, problems=interrupted(0)).stored


def test_what_was_measured_is_on_disk_before_the_end(ticking: Ticking) -> None:
    def killed() -> Iterator[Problem]:
        yield from itertools.islice(stream(0, CALIBRATION), 8)
        raise SystemExit

    with pytest.raises(SystemExit):
        calibrate(Store(), timer=ticking, problems=killed())
    assert len(read_samples(Store().get("calibration", fingerprint()))) >= 12


def test_the_table_that_comes_with_tzwc() -> None:
    assert len(built_in()) > 100
    model = model_for("cpu")
    long = Problem(8, 64, 64, 64, (784,), (783,), ((391, 391),), static_kernel=True)
    short = long.with_(kernel=(3,), padding=((1, 1),))
    predicted = {name: model.predict(long, name) for name in ("native", "fft")}
    assert predicted["native"] > 5 * predicted["fft"]
    assert model.predict(short, "native") < model.predict(short, "fft")
    assert model.predict(long.with_(dtype=torch.float64), "fft") > predicted["fft"]
    assert model_for("cuda").predict(long, "native") is None


@pytest.mark.parametrize(
    "found",
    [
        None,
        {},
        {"samples": 1},
        {"samples": [1]},
        {"samples": [[{}, {}]]},
        {"samples": [[{"batch": 1}, {"native": -1}]]},
        {"samples": [[{"batch": 1, "dtype": "torch.nn"}, {"native": 1}]]},
        {"samples": [[{"batch": 1, "surprise": 2}, {"native": 1}]]},
        {"samples": [[{"batch": 1, "lengths": "12"}, {"native": 1}]]},
    ],
)
def test_what_is_no_table_is_refused(found: Any) -> None:
    with pytest.raises(ValueError, match=r".+"):
        read_samples(found)


@given(seed=st.integers(0, 10_000))
def test_problems_and_samples_survive_files(seed: int) -> None:
    problem = draw(random.Random(seed), BENCHMARK)
    assert BENCHMARK.admit(problem)
    assert problem_from_dict(json.loads(json.dumps(problem_to_dict(problem)))) == problem
    odd = problem.with_(dtype=torch.bfloat16, direction="input_gradient", padding_mode="circular", flip=True)
    written = json.loads(json.dumps(write_samples([Sample(odd, {"native": 0.12345, "unheard of": 1.0})])))
    assert read_samples(written) == [Sample(odd, {"native": 0.123})]


def _seconds(problem: Problem) -> float:
    """A machine with two rates, a cost for each call, and a cliff."""
    work = find_algorithm("native").work(problem)
    seconds = 1e-5 + sum(count for name, count in work.items() if name.endswith("flops")) / 1e10 + work["moved"] / 1e9
    return seconds * (4.0 if max(problem.kernel) > 13 else 1.0)


def _samples(seed: int, count: int) -> list[Sample]:
    return [Sample(p, {"native": _seconds(p)}) for p in itertools.islice(stream(seed, CALIBRATION), count)]


def test_predictions_learn_rates_and_cliffs() -> None:
    model = CostModel(_samples(0, 300))
    errors = sorted(abs(s.seconds["native"] / (model.predict(s.problem, "native") or 0) - 1) for s in _samples(1, 100))
    assert errors[50] < 0.3  # half the problems within 30 %, of times that span six orders of magnitude
    assert errors[90] < 3.0
    assert model.predict(_samples(1, 1)[0].problem, "fft") is None
    assert CostModel(_samples(0, 4)).predict(_samples(1, 1)[0].problem, "native") is None  # too few to say


def test_a_calibration_shifts_the_table() -> None:
    """A machine that is three times slower throughout is known after a few problems, at all sizes."""
    table = CostModel(_samples(0, 200))
    few = [Sample(s.problem, {"native": 3 * s.seconds["native"]}) for s in _samples(2, 20)]
    calibrated = CostModel(few, table)
    for sample in _samples(3, 50):
        before, after = (model.predict(sample.problem, "native") for model in (table, calibrated))
        assert before is not None
        assert after is not None
        assert 1.5 < after / before < 6.0
    assert calibrated.predict(few[0].problem.with_(direction="weight_gradient"), "native") is None


def test_the_fingerprint_tells_settings_apart() -> None:
    facts = fingerprint()
    assert json.loads(json.dumps(facts)) == facts
    assert facts["threads"] == torch.get_num_threads()
    assert "torch" in describe(facts)
    torch.use_deterministic_algorithms(True)
    try:
        assert fingerprint() != facts
    finally:
        torch.use_deterministic_algorithms(False)


@given(seed=st.integers(0, 10_000))
def test_predictions_are_numbers(seed: int) -> None:
    problem = draw(random.Random(seed), BENCHMARK)
    for direction in ("forward", "weight_gradient"):
        seconds = model_for("cpu").predict(problem.with_(direction=direction), "native")
        assert seconds is not None
        assert 0 < seconds < 1e6


def test_the_problems_that_were_given_are_all(ticking: Ticking) -> None:
    found = calibrate(Store(), timer=ticking, problems=itertools.islice(stream(0, CALIBRATION), 2))
    assert found.complete
    assert len(found.samples) == 6


@pytest.mark.parametrize("found", [[], None, "conv"])
def test_what_is_no_problem_is_refused(found: object) -> None:
    with pytest.raises(ValueError, match="a problem is a table"):
        problem_from_dict(found)


@pytest.mark.parametrize(("axes", "layout"), [(2, torch.channels_last), (3, torch.channels_last_3d)])
def test_operands_lie_as_the_problem_says(axes: int, layout: torch.memory_format) -> None:
    problem = Problem(2, 3, 3, 3, (4,) * axes, (3,) * axes, ((1, 1),) * axes, channels_last=True)
    x, _ = operands(problem)
    assert x.is_contiguous(memory_format=layout)
    assert torch.equal(x, operands(problem.with_(channels_last=False))[0])
    line = Problem(2, 3, 3, 3, (4,), (3,), ((1, 1),), channels_last=True)
    assert operands(line)[0].is_contiguous()  # there is no such layout of one axis
