"""What is chosen, why, and what is remembered."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import tzwc.autotune.choice
import tzwc.util.disk_cache
from tests.support.fake_timer import FakeTimer
from tzwc.autotune import Choice, Store, TuningWarning, choose
from tzwc.autotune.calibration import write_samples
from tzwc.autotune.cost_model import CostModel, Sample
from tzwc.autotune.fingerprint import fingerprint
from tzwc.autotune.measure import Limits
from tzwc.autotune.random_problems import CALIBRATION, stream
from tzwc.autotune.timers import Call
from tzwc.errors import InvalidArgumentError
from tzwc.ops.conv import Algorithm, Problem, all_algorithms, compute, legal_algorithms

PROBLEM = Problem(2, 4, 4, 4, (64,), (31,), ((15, 15),))


@pytest.fixture(autouse=True)
def _nothing_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tzwc.util.disk_cache, "_said", set())


@pytest.fixture
def pretend(monkeypatch: pytest.MonkeyPatch) -> Callable[..., FakeTimer]:
    """Let algorithms take as long as told, and all others a tenth of a second."""

    def install(**seconds: float) -> FakeTimer:
        def maker(_: Problem, algorithm: Algorithm, __: object) -> Callable[[], Call]:
            return lambda: lambda: seconds.get(algorithm.name, 0.1)

        monkeypatch.setattr(tzwc.autotune.choice, "call_maker", maker)
        # What is told has nothing to do with what is predicted.
        monkeypatch.setattr(tzwc.autotune.choice, "ERRORS", {"built-in": math.inf, "calibrated": math.inf})
        return FakeTimer()

    return install


def test_off_is_native_and_touches_nothing(tmp_path: Path) -> None:
    choice = choose(PROBLEM, tune="off", store=Store(tmp_path))
    assert (choice.algorithm, choice.source, choice.candidates, choice.costs()) == ("native", "off", {}, {})
    assert list(tmp_path.iterdir()) == []


def test_model_predicts_and_writes_nothing(tmp_path: Path) -> None:
    long = Problem(8, 64, 64, 64, (784,), (783,), ((391, 391),), static_kernel=True)
    choice = choose(long, tune="model", store=Store(tmp_path))
    assert choice.algorithm != "native"
    assert choice.source == "built-in"
    assert "faster than native" in choice.why
    assert choice.candidates["native"].measured is None
    assert list(tmp_path.iterdir()) == []
    assert choose(long.with_(kernel=(1,), padding=((0, 0),)), tune="model", exact=True).declined["fft"]


@pytest.mark.parametrize(("taps", "run"), [(31, True), (16383, False)])
def test_candidates_without_a_prediction_are_called_where_even_the_slowest_would_end(
    taps: int, run: bool, pretend: Callable[..., FakeTimer], monkeypatch: pytest.MonkeyPatch
) -> None:
    timer = pretend(fft=1e-3)
    monkeypatch.setattr(tzwc.autotune.choice, "model_for", lambda _: CostModel([]))
    problem = Problem(1, 16, 16, 16, (taps + 1,), (taps,), ((taps // 2, taps // 2),))
    choice = choose(problem, timer=timer)
    assert (choice.source == "measured") == run
    assert choice.algorithm == ("fft" if run else "native")


def test_measure_measures_once_and_remembers(pretend: Callable[..., FakeTimer]) -> None:
    timer = pretend(native=3e-3, fft=1e-3)
    first = choose(PROBLEM, timer=timer)
    assert (first.algorithm, first.source) == ("fft", "measured")
    assert first.why == "measured 1 ms, 3× faster than native"
    assert first.costs()["fft_measured_us"] == 1000.0
    assert next(iter(first.candidates)) == "fft"
    calls = timer.calls
    again = choose(PROBLEM, timer=timer)
    assert timer.calls == calls
    assert (again.algorithm, again.source, again.why) == ("fft", "remembered", first.why)
    assert json.loads(json.dumps(again.to_dict()))["candidates"]["fft"]["measured"] == pytest.approx(1e-3)
    assert choose(PROBLEM.with_(batch=3), timer=timer).source == "measured"  # another problem


def test_gradients_do_not_depend_on_a_static_kernel(pretend: Callable[..., FakeTimer]) -> None:
    timer = pretend(native=1e-3)
    gradient = PROBLEM.with_(direction="input_gradient")
    assert choose(gradient, timer=timer).source == "measured"
    assert choose(gradient.with_(static_kernel=True), timer=timer).source == "remembered"


def test_reasons(pretend: Callable[..., FakeTimer]) -> None:
    won = choose(PROBLEM, timer=pretend(native=1e-3, fft=2e-3))
    assert won.algorithm == "native"
    assert won.why.startswith("measured 1 ms, the fastest of ")
    tied = choose(PROBLEM.with_(batch=5), timer=pretend(native=1.01e-3, fft=1e-3))
    assert (tied.algorithm, tied.why) == ("native", "measured 1.01 ms, within 3% of fft, the fastest")


def test_candidates_that_fail_or_need_too_much_memory_are_declined(monkeypatch: pytest.MonkeyPatch) -> None:
    def maker(_: Problem, algorithm: Algorithm, __: object) -> Callable[[], Call]:
        def call() -> float:
            if algorithm.name == "fft":
                raise RuntimeError("no such plan")
            return 1e-3

        return lambda: call

    monkeypatch.setattr(tzwc.autotune.choice, "call_maker", maker)
    choice = choose(PROBLEM, timer=FakeTimer())
    assert choice.declined["fft"] == "RuntimeError: no such plan"
    assert "fft" not in choice.candidates
    assert choose(PROBLEM, timer=FakeTimer()).declined["fft"] == "RuntimeError: no such plan"
    large = Problem(64, 1, 1, 1, (4096,), (4095,), ((2047, 2047),))
    declined = choose(large, tune="model", limits=Limits(memory=1)).declined
    assert any("GiB" in reason for reason in declined.values())


@pytest.mark.parametrize(
    "value",
    [
        None,
        1,
        {},
        {"seconds": {"native": "fast"}},
        {"seconds": {"native": 1}, "winner": "fft", "failed": {}},
        {"seconds": {"os": 1}, "winner": "os", "failed": {}},
        {"seconds": {"native": 1}, "winner": [], "failed": {}},
    ],
)
def test_a_remembered_value_that_makes_no_sense_is_a_miss(pretend: Callable[..., FakeTimer], value: object) -> None:
    timer = pretend(native=1e-3)
    choose(PROBLEM, timer=timer)
    (entry,) = Store().entries()
    assert entry.key is not None
    Store().put("choice", entry.key, value)
    if value is None:
        assert choose(PROBLEM, timer=timer).source == "measured"
        return
    with pytest.warns(TuningWarning, match="will be replaced"):
        assert choose(PROBLEM, timer=timer).source == "measured"
    assert choose(PROBLEM, timer=timer).source == "remembered"


def test_a_calibration_is_used_until_it_is_gone() -> None:
    names = list(all_algorithms())
    samples = []
    for problem, _ in zip(stream(3, CALIBRATION), range(30), strict=False):
        samples.append(Sample(problem, {name: 1e-6 if name == "fft" else 1.0 for name in names}))
    store = Store()
    store.put("calibration", fingerprint(), write_samples(samples))
    choice = choose(PROBLEM, tune="model", store=store)
    assert (choice.algorithm, choice.source) == ("fft", "calibrated")
    store.put("calibration", fingerprint(), {"samples": "?"})
    with pytest.warns(TuningWarning, match="holds no samples"):
        assert choose(PROBLEM, tune="model", store=store).source == "built-in"
    store.clear()
    assert choose(PROBLEM, tune="model", store=store).source == "built-in"


def test_a_store_that_cannot_be_written_to_changes_nothing(tmp_path: Path, pretend: Callable[..., FakeTimer]) -> None:
    (tmp_path / "file").touch()
    store, timer = Store(tmp_path / "file"), pretend(native=1e-3)
    with pytest.warns(TuningWarning, match="cannot be written to"):
        assert choose(PROBLEM, timer=timer, store=store).source == "measured"
    assert choose(PROBLEM, timer=timer, store=store).source == "measured"


def test_wrong_arguments() -> None:
    with pytest.raises(InvalidArgumentError, match="tune='maybe'"):
        choose(PROBLEM, tune="maybe")
    with pytest.raises(InvalidArgumentError, match="no algorithm can compute"):
        choose(PROBLEM.with_(dtype=torch.complex64))


@pytest.mark.parametrize("direction", ["forward", "input_gradient", "weight_gradient"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_real_measurements_leave_the_generator_alone(direction: str, dtype: torch.dtype) -> None:
    torch.manual_seed(1)
    state = torch.get_rng_state()
    problem = PROBLEM.with_(direction=direction, dtype=dtype, static_kernel=True)
    with torch.device("meta"):  # as a capture would have it
        choice = choose(problem, limits=Limits(seconds=0.02))
    assert torch.equal(torch.get_rng_state(), state)
    assert choice.source == "measured"
    assert choice.algorithm in all_algorithms()
    a = torch.rand(2, 4, 64, dtype=dtype)
    b = a if direction == "weight_gradient" else torch.rand(4, 1, 31, dtype=dtype)
    assert compute(problem, choice.algorithm, a, b).isfinite().all()


def test_operands_that_do_not_fit_leave_the_prediction(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_memory(_: Problem) -> None:
        raise RuntimeError("not enough memory")

    monkeypatch.setattr(tzwc.autotune.choice, "operands", no_memory)
    assert choose(PROBLEM).source == "built-in"


def test_an_empty_batch_is_not_measured() -> None:
    assert choose(PROBLEM.with_(batch=0)).source == "built-in"


@pytest.mark.gpu
def test_on_cuda() -> None:
    choice = choose(PROBLEM.with_(device="cuda"))
    assert isinstance(choice, Choice)
    assert choice.source == "measured"
    assert choice.candidates["native"].predicted is None


def test_two_processes_choose_at_once(tmp_path: Path) -> None:
    script = (
        "import torch; torch.set_num_threads(1)\n"
        "from tzwc.ops.conv import Problem\nfrom tzwc.autotune import choose\n"
        "for n in (1, 2, 3):\n"
        "    print(choose(Problem(n, 2, 2, 2, (32,), (9,), ((4, 4),))).algorithm)\n"
    )
    environment = {"TZWC_CACHE_DIR": str(tmp_path), "PATH": "", "OMP_NUM_THREADS": "1"}
    run = [sys.executable, "-W", "error", "-c", script]
    processes = [subprocess.Popen(run, stdout=subprocess.PIPE, text=True, env=environment) for _ in range(2)]
    try:
        for process in processes:
            out, _ = process.communicate(timeout=300)
            assert process.returncode == 0
            assert len(out.split()) == 3
    finally:
        for process in processes:
            process.kill()
    assert len(list((tmp_path / "tuning").iterdir())) == 3


def test_with_one_candidate_nothing_is_measured(pretend: Callable[..., FakeTimer]) -> None:
    large, timer = Problem(64, 1, 1, 1, (4096,), (4095,), ((2047, 2047),)), pretend()
    everything = Limits(memory=0)
    legal = legal_algorithms(large)[0]
    few = {name: legal[name] for name in ("native", "toeplitz")}
    choice = tzwc.autotune.choice._choose(large, "measure", few, {}, Store(), everything, timer)
    assert (choice.algorithm, choice.why) == ("native", "there is no other candidate")
    assert list(choice.declined) == ["toeplitz"]
    assert timer.calls == 0


def test_reasons_without_native(pretend: Callable[..., FakeTimer]) -> None:
    long = Problem(8, 64, 64, 64, (4096,), (4095,), ((2047, 2047),))
    won = choose(long, timer=pretend(fft=1e-3), limits=Limits(factor=1.01, trifle=0.0))
    assert "native" not in {name for name, one in won.candidates.items() if one.measured is not None}
    assert re.fullmatch(r"measured 1 ms; native is predicted to take .* m?s", won.why)


def test_a_calibration_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store()
    problem = next(stream(3, CALIBRATION))
    store.put("calibration", fingerprint(), write_samples([Sample(problem, dict.fromkeys(all_algorithms(), 1.0))] * 10))
    first = choose(PROBLEM, tune="model", store=store)
    assert first.source == "calibrated"
    monkeypatch.setattr(store, "get", lambda *_: pytest.fail("read again"))
    assert choose(PROBLEM, tune="model", store=store) == first
