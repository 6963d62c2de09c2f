"""tzwc bench convolution, on a few convolutions that are small."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

import tzwc.bench.convolution.run
from tests.support.bench_records import record
from tests.support.fake_timer import FakeTimer
from tzwc.autotune.choice import Choice
from tzwc.autotune.fingerprint import fingerprint
from tzwc.autotune.random_problems import Bounds
from tzwc.autotune.workload import operands
from tzwc.bench.convolution.cases import FIXED, Case, draw_cases
from tzwc.bench.convolution.compiled import compare, compare_fixed
from tzwc.bench.convolution.memory import peak_by_algorithm, peak_bytes
from tzwc.bench.convolution.regret import ANCHORS, Settings, time_in_turns
from tzwc.bench.convolution.run import ConvolutionBench, Request, distribution, regret, run
from tzwc.cli.main import app
from tzwc.errors import InvalidArgumentError
from tzwc.ops import prepare_kernel
from tzwc.ops.conv import Problem
from tzwc.util.disk_cache import Store

SMALL = Bounds(lengths=((16, 64), (8, 12)), channels=6, batch=2, kernel=4000.0)


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tzwc.bench.convolution.run, "draw_cases", lambda seed, count: draw_cases(seed, count, SMALL))


def test_cases_are_those_of_their_seed() -> None:
    assert draw_cases(3, 20) == draw_cases(3, 30)[:20]
    assert draw_cases(3, 20) != draw_cases(4, 20)
    cases = draw_cases(3, 200)
    assert {case.problem.axes for case in cases} == {1, 2}
    assert {case.backward for case in cases} == {True, False}
    assert [len(case.directions) for case in cases[:2]] == [1, 3]
    assert any(case.problem.per_sample for case in cases)


def test_regret_is_summed_over_directions() -> None:
    case = {"directions": [record("fft", {"fft": 2.0, "native": 1.0}), record("fft", {"fft": 1.0}, {"native": 9.0})]}
    assert regret(case, "measure") == 1.5
    assert regret(case, "model") == 1.0
    assert regret(case, "native") == 5.0
    assert regret(case, "again") == pytest.approx(1.1)
    assert distribution([1.0] * 19 + [2.0]) == {"p50": 1.0, "p90": 1.0, "p95": 1.0, "max": 2.0, "mean": 1.05}


def test_goals() -> None:
    bench = ConvolutionBench(Request(), [{"case": 0, "directions": [record("fft", {"fft": 1.2, "native": 1.0})]}])
    assert bench.goals() == {"p95 ≤ 1.10": False, "max ≤ 1.25": True}
    bench.fixed.append({"name": "a", "goal": 8.0, "ratio": 7.0})
    bench.compiled.append({"ratio": 0.96})
    assert bench.goals() | {"a ≥ 8×": False, "never below 0.95×": True} == bench.goals()
    assert bench.summary()["against torch.compile"] == {"least": 0.96, "cases": 2}


def test_far_slower_candidates_are_called_once() -> None:
    timer = FakeTimer()
    counts = dict.fromkeys("abc", 0)

    def counted(name: str, seconds: float) -> Any:
        def call() -> float:
            counts[name] += 1
            return seconds

        return call

    calls = {"a": counted("a", 0.01), "b": counted("b", 0.25), "c": counted("c", 0.04)}
    found = time_in_turns(calls, timer, Settings(rounds=9))
    assert found == {"a": pytest.approx(0.01), "b": pytest.approx(0.25), "c": pytest.approx(0.04)}
    assert counts == {"a": 11, "b": 1, "c": 4}


def test_an_interrupted_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "lines.jsonl"
    request = Request(cases=3, rounds=2, fixed=False, memory=1, out=out)
    measured: list[int] = []
    original = tzwc.bench.convolution.run.measure_case

    def measure(case: Case, *rest: Any) -> dict[str, Any]:
        if len(measured) == 2:
            raise KeyboardInterrupt
        measured.append(case.number)
        return original(case, *rest)

    monkeypatch.setattr(tzwc.bench.convolution.run, "measure_case", measure)
    with pytest.raises(KeyboardInterrupt):
        run(request)
    with out.open("a") as file:
        file.write('{"kind": "case", "num')
    monkeypatch.setattr(tzwc.bench.convolution.run, "measure_case", original)
    bench = run(request)
    lines = [json.loads(line) for line in out.read_text().splitlines() if not line.endswith('"num')]
    assert [(line["kind"], line["number"]) for line in lines] == [("case", 0), ("case", 1), ("case", 2), ("memory", 1)]
    assert [line["found"] for line in lines[:3]] == bench.cases
    again = run(request)
    assert again.cases == bench.cases
    assert len(out.read_text().splitlines()) == 5
    run(Request(cases=1, seed=2, rounds=2, fixed=False, memory=0, out=out))
    assert len(out.read_text().splitlines()) == 6  # another seed is another measurement
    assert bench.memory[0]["peak bytes"]["native"] > 0


@pytest.mark.parametrize("text", [False, True])
def test_the_command(text: bool) -> None:
    arguments = ["bench", "convolution", "--cases", "2", "--rounds", "2", "--no-fixed", "--memory", "1"]
    arguments += ["--compile-sample", "1", "--backend", "eager"]
    result = CliRunner().invoke(app, arguments if text else [*arguments, "--json"], env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    if text:
        assert "tune='measure'" in result.stdout
        assert "p95 ≤ 1.10" in result.stdout
    else:
        found = json.loads(result.stdout)
        assert len(found["cases"]) == 2
        assert found["summary"]["measure"]["p50"] >= 1.0


@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("per_sample", [False, True])
def test_against_compiled_on_one_backend(monkeypatch: pytest.MonkeyPatch, backward: bool, per_sample: bool) -> None:
    monkeypatch.setattr("tzwc.bench.convolution.compiled.choose", lambda *_, **__: Choice("fft"))
    problem = Problem(2, 3, 3, 3, (20,), (4,), ((1, 2),), per_sample=per_sample, static_kernel=not per_sample)
    found = compare(problem, backward, Store(), 2, "eager")
    assert found["ratio"] > 0
    assert found["algorithms"] == ["fft"] * (3 if backward else 1)
    monkeypatch.setattr("tzwc.bench.convolution.compiled.choose", lambda *_, **__: Choice("native"))
    assert compare(problem, backward, Store(), 2, "eager")["same program"]
    assert compare_fixed(3, Store(), 2, "eager")["name"] == FIXED[3].name


@pytest.mark.parametrize(
    ("problem", "algorithm"),
    [
        (Problem(2, 3, 3, 3, (20,), (4,), ((1, 2),), static_kernel=True, dtype=torch.float64), "fft"),
        (Problem(2, 4, 6, 2, (9, 8), (3, 2), ((1, 1), (0, 0)), dilation=(1, 2), dtype=torch.float64), "fft"),
        (Problem(2, 3, 3, 3, (20,), (4,), ((1, 2),), per_sample=True, dtype=torch.float64), "fft"),
        (Problem(2, 3, 3, 3, (9, 8), (3, 2), ((1, 1), (0, 0)), per_sample=True, dtype=torch.float64), "fft"),
    ],
)
def test_both_sides_compute_the_same(monkeypatch: pytest.MonkeyPatch, problem: Problem, algorithm: str) -> None:
    sides: list[Any] = []
    monkeypatch.setattr("tzwc.bench.convolution.compiled.choose", lambda *_, **__: Choice(algorithm))

    def compiled(function: Any, backend: str) -> Any:
        del backend
        sides.append(function)
        return function

    monkeypatch.setattr(torch, "compile", compiled)
    compare(problem, False, Store(), 2)
    theirs, mine = sides
    x, kernel = operands(problem)
    second = kernel
    if problem.static_kernel:
        second = prepare_kernel(kernel, algorithm=algorithm, lengths=problem.lengths, **problem.keywords())
    # Sums of at most 12 products below about 20: the FFT's error is some roundings of the largest intermediate value.
    torch.testing.assert_close(mine(x, second), theirs(x, kernel), rtol=0, atol=1e-12)


def test_slow_sides_are_compared_in_two_rounds_or_three(monkeypatch: pytest.MonkeyPatch) -> None:
    class Slow:
        rounds = 0

        def time(self, _call: object, _times: int) -> float:
            self.rounds += 1
            return 2.0

    timer = Slow()
    monkeypatch.setattr("tzwc.bench.convolution.compiled.choose", lambda *_, **__: Choice("fft"))
    monkeypatch.setattr("tzwc.bench.convolution.compiled.timer_for", lambda _: timer)
    found = compare(Problem(1, 1, 1, 1, (20,), (4,), ((1, 2),)), False, Store(), 50, "eager")
    assert (found["ratio"], found["chosen"]) == (1.0, 2.0)
    assert timer.rounds == 2 + 2 * 3  # each side once to see how long it takes; then more than 10 s after three rounds


def test_fixed_points_are_compared_too(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers: list[int] = []

    def compared(number: int, store: Store, rounds: int, backend: str) -> dict[str, Any]:
        del store
        numbers.append(number)
        return {"name": FIXED[number].name, "goal": 2.0, "ratio": rounds / 1.5, "backend": backend}

    monkeypatch.setattr(tzwc.bench.convolution.run, "compare_fixed", compared)
    bench = run(Request(cases=1, rounds=3, memory=0, backend="eager"))
    assert numbers == list(range(len(FIXED)))
    assert [row["backend"] for row in bench.fixed] == ["eager"] * len(FIXED)
    assert all(bench.goals()[f"{point.name} ≥ 2×"] for point in FIXED)


def test_the_calibration_of_the_machine_is_used_and_its_choices_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    machine, seen = fingerprint(), []
    Store().put("calibration", machine, {"samples": []})
    Store().put("choice", machine, {"algorithm": "fft"})

    def measure(_case: Case, store: Store, _settings: Settings) -> dict[str, Any]:
        seen.append((store.get("calibration", machine), store.get("choice", machine)))
        return {"directions": [record("native", {"native": 1.0})]}

    monkeypatch.setattr(tzwc.bench.convolution.run, "measure_case", measure)
    run(Request(cases=1, rounds=2, fixed=False, memory=0))
    assert seen == [({"samples": []}, None)]


def test_memory_is_that_of_results_and_gradients() -> None:
    problem = Problem(1, 2, 2, 2, (1000,), (3,), ((1, 1),))
    peak = peak_bytes(problem, ("native", "native", "native"))
    assert 3 * 2 * 1000 * 4 <= peak < 20 * 2 * 1000 * 4  # the result and two gradients of its size, and some copies


def test_memory_is_asked_of_what_computes_gradients_too() -> None:
    problem = Problem(1, 2, 2, 2, (20,), (3,), ((1, 1),))
    assert peak_by_algorithm(problem, ["native", "toeplitz"]).keys() == {"native"}


def test_a_measurement_ends_when_its_time_is_over() -> None:
    calls: dict[str, Any] = {"a": lambda: 0.5, "b": lambda: 0.6}
    timer = FakeTimer()
    time_in_turns(calls, timer, Settings(rounds=9, seconds=1.0))
    assert timer.calls == 2 * (2 + 2)  # twice to see how long each takes, then two rounds, which are always made


def test_wrong_requests() -> None:
    for wrong in ({"cases": 0}, {"rounds": 1}, {"compile_sample": -1}, {"memory": -1}):
        with pytest.raises(InvalidArgumentError, match=next(iter(wrong))):
            Request(**wrong)


def test_anchors_name_a_candidate() -> None:
    for case in itertools.islice(draw_cases(1, 30), 30):
        for rule in ANCHORS.values():
            assert rule(case.problem, ("native", "fft")) in ("native", "fft")
            assert rule(case.problem, ("native",)) == "native"
