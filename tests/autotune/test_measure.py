"""Who is measured, for how long, and who wins, on clocks that are told what to show."""

from __future__ import annotations

import dataclasses
import gc
import random
import time
from collections.abc import Callable

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from tests.support.fake_timer import FakeTimer, takes
from tzwc.autotune.measure import Limits, closest, measure
from tzwc.autotune.timers import Call, CpuTimer, CudaTimer, timer_for
from tzwc.util.modes import undisturbed

LIMITS = Limits(trifle=0.02)


def test_the_close_the_cheap_the_unknown_and_native_are_measured() -> None:
    predicted = {"native": 0.3, "a": 0.1, "b": 0.39, "c": 0.41, "d": None}
    assert closest(predicted, LIMITS) == ["a", "native", "b", "d"]
    assert closest({"native": 0.45, "a": 0.01, "b": 0.0399, "c": 0.041}, LIMITS) == ["a", "b", "native"]
    assert closest({"native": 1e-4, "a": 9e-3}, LIMITS) == ["native", "a"]  # two calls cost nothing
    assert closest({"native": 2.0, "a": 0.01}, LIMITS) == ["a"]
    assert closest({"native": None}, LIMITS) == ["native"]


def test_the_fastest_wins_and_the_slow_are_called_once() -> None:
    timer = FakeTimer()
    counts = dict.fromkeys("abc", 0)

    def counted(name: str, seconds: float) -> Callable[[], Call]:
        def call() -> float:
            counts[name] += 1
            return seconds

        return lambda: call

    outcome = measure({"a": counted("a", 0.01), "b": counted("b", 0.008), "c": counted("c", 0.1)}, timer, LIMITS)
    assert outcome.winner == "b"
    assert counts["c"] == 1
    assert outcome.seconds == {"a": pytest.approx(0.01), "b": pytest.approx(0.008), "c": pytest.approx(0.1)}
    assert timer.clock <= LIMITS.seconds


@pytest.mark.parametrize(("other", "winner"), [(0.0098, "native"), (0.0095, "b")])
def test_of_equals_native_wins(other: float, winner: str) -> None:
    outcome = measure(takes({"b": other, "native": 0.01}), FakeTimer(), LIMITS)
    assert outcome.winner == winner
    assert (outcome.tied == ("b",)) == (winner == "native")


def test_of_equals_the_first_registered_wins() -> None:
    outcome = measure(takes({"c": 0.01, "b": 0.0101, "a": 0.0102}), FakeTimer(), LIMITS, ranking=("native", "a", "b"))
    assert outcome.winner == "a"
    assert set(outcome.tied) == {"b", "c"}


def _busy(rng: random.Random) -> float:
    """A third of the calls wait for other programs, for up to ten times as long; the rest jitter by 2 %."""
    return rng.uniform(2, 10) if rng.random() < 1 / 3 else rng.uniform(0.99, 1.01)


@pytest.mark.parametrize("seed", range(20))
def test_a_gain_of_a_tenth_is_seen_on_a_busy_machine(seed: int) -> None:
    candidates = takes({"native": 1.1e-3, "b": 1e-3, "c": 1.3e-3, "d": 2e-3})
    outcome = measure(candidates, FakeTimer(_busy, seed), LIMITS)
    assert outcome.winner == "b"


@pytest.mark.parametrize("scale", [1e-7, 1e-5, 1e-3, 1e-1, 1.0, 10.0])
def test_the_budget_holds_whatever_a_call_takes(scale: float) -> None:
    seconds = {"a": scale, "native": 1.05 * scale, "b": 1.2 * scale, "c": 30 * scale}
    timer = FakeTimer()
    outcome = measure(takes(seconds), timer, LIMITS)
    assert outcome.winner == "a"
    # No call can be cut short: one of each is the least there is, and what began within the budget ends after it.
    assert timer.clock <= LIMITS.seconds + sum(seconds.values()) + 2 * scale


def test_candidates_that_cannot_be_run_are_left_out() -> None:
    def no_memory() -> Call:
        raise RuntimeError("not enough memory\nfor 12 bytes")

    def no_kernel() -> Call:
        def call() -> float:
            raise MemoryError

        return call

    outcome = measure({"a": no_memory, "b": no_kernel, **takes({"native": 1.0})}, FakeTimer(), LIMITS)
    assert outcome.winner == "native"
    assert outcome.failed == {"a": "RuntimeError: not enough memory", "b": "MemoryError: "}
    assert measure({"a": no_memory}, FakeTimer(), LIMITS).winner is None


def test_undisturbed_by_what_is_going_on_around() -> None:
    with FakeTensorMode(), torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16), torch.enable_grad():
        with undisturbed():
            x = torch.ones(2, 2)
            assert type(x) is torch.Tensor
            assert not x.is_inference()
            assert not torch.is_grad_enabled()
            assert (x @ x).dtype == torch.float32
            assert not gc.isenabled()
        assert type(torch.ones(1)) is not torch.Tensor
    assert gc.isenabled()


def test_clocks() -> None:
    assert type(timer_for("cpu")) is CpuTimer
    assert type(timer_for("cuda")) is CudaTimer
    timer = CpuTimer()
    assert 0 < timer.time(lambda: sum(range(1000)), 3) < 1
    assert timer.now() <= timer.now()


@pytest.mark.gpu
def test_events() -> None:
    x = torch.ones(2000, 2000, device="cuda")
    assert 0 < CudaTimer().time(lambda: x @ x, 3) < 1


def test_a_clock_that_stands_still_is_not_believed() -> None:
    timer = CpuTimer()
    timer.clock = lambda: 0.0
    assert timer.time(lambda: time.sleep(0.01), 2) >= 0.01


def test_a_gpu_is_timed_by_its_own_events(monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[str] = []

    class Event:
        def __init__(self, enable_timing: bool) -> None:
            assert enable_timing

        def record(self) -> None:
            log.append("record")

        def synchronize(self) -> None:
            log.append("wait")

        def elapsed_time(self, _end: Event) -> float:
            return 30.0  # milliseconds

    monkeypatch.setattr(torch.cuda, "Event", Event)
    assert CudaTimer().time(lambda: log.append("call"), 3) == pytest.approx(0.01)
    assert log == ["record", "call", "call", "call", "record", "wait"]


def test_where_two_rounds_are_all_the_least_counts() -> None:
    outcome = measure(takes({"a": 0.01, "b": 0.0102}), FakeTimer(), dataclasses.replace(LIMITS, rounds=2))
    assert outcome.winner == "a"
    assert outcome.seconds == {"a": pytest.approx(0.01), "b": pytest.approx(0.0102)}
