"""What becomes a fact, and what happens to the rest."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch.distributed as dist
from filelock import FileLock
from typer.testing import CliRunner

import tzwc.autotune.choice
import tzwc.autotune.facts
from tests.support.fake_timer import FakeTimer, make_quiet
from tzwc.autotune import Store, choose
from tzwc.autotune.calibration import model_for
from tzwc.autotune.facts import agreed
from tzwc.autotune.ranks import same_on_all_ranks
from tzwc.autotune.timers import Call
from tzwc.cli.main import app
from tzwc.ops.conv import Algorithm, Problem

PROBLEM = Problem(2, 4, 4, 4, (64,), (31,), ((15, 15),))
Pretend = Callable[..., FakeTimer]


@pytest.fixture
def pretend(monkeypatch: pytest.MonkeyPatch) -> Pretend:
    """Let algorithms take as long as predicted, times a factor for each."""

    def install(**factors: float) -> FakeTimer:
        def maker(problem: Problem, algorithm: Algorithm, _: object) -> Callable[[], Call]:
            seconds = (model_for("cpu").predict(problem, algorithm.name) or 1.0) * factors.get(algorithm.name, 1.0)
            return lambda: lambda: seconds

        monkeypatch.setattr(tzwc.autotune.choice, "call_maker", maker)
        return FakeTimer()

    return install


def kinds() -> list[str]:
    return sorted(entry.kind for entry in Store().entries())


def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """As another process, or a minute later."""
    monkeypatch.setattr(tzwc.autotune.facts, "_tried", {})


def test_what_was_expected_is_a_fact_at_once(pretend: Pretend) -> None:
    assert choose(PROBLEM, timer=pretend()).source == "measured"
    assert kinds() == ["choice"]
    assert choose(PROBLEM, timer=pretend()).source == "remembered"


def test_on_a_busy_machine_nothing_is_measured(pretend: Pretend, monkeypatch: pytest.MonkeyPatch) -> None:
    make_quiet(monkeypatch, before="the build of the native extension")
    timer = pretend()
    choice = choose(PROBLEM, timer=timer)
    assert (choice.source, timer.calls, kinds()) == ("built-in", 0, [])
    assert choice.why.endswith("to be measured later: the machine is busy with the build of the native extension")
    assert choice.algorithm == choose(PROBLEM, tune="model").algorithm
    make_quiet(monkeypatch)
    assert choose(PROBLEM, timer=timer).source == "measured"


def test_a_disturbed_measurement_decides_nothing(pretend: Pretend, monkeypatch: pytest.MonkeyPatch) -> None:
    make_quiet(monkeypatch, meanwhile="other programs")
    choice = choose(PROBLEM, timer=pretend())
    assert (choice.source, kinds()) == ("built-in", ["doubt"])
    assert "the machine was busy with other programs" in choice.why
    later(monkeypatch)
    assert choose(PROBLEM, timer=pretend()).source == "built-in"
    assert kinds() == ["doubt"]  # however often it is seen
    make_quiet(monkeypatch)
    assert choose(PROBLEM, timer=pretend()).source == "measured"
    assert kinds() == ["choice"]  # which replaced it


def test_a_surprise_becomes_a_fact_when_it_is_seen_again(pretend: Pretend, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = {"native": 100.0}
    choice = choose(PROBLEM, timer=pretend(**slow))
    assert "native was measured at" in choice.why
    assert kinds() == ["doubt"]
    timer = pretend(**slow)
    assert choose(PROBLEM, timer=timer).source == "built-in"
    assert timer.calls == 0  # not at once
    later(monkeypatch)
    choose(PROBLEM, timer=pretend(native=1000.0))
    assert kinds() == ["doubt"]  # they do not agree
    later(monkeypatch)
    choose(PROBLEM, timer=pretend(native=1000.0))
    assert kinds() == ["choice"]


def test_a_surprise_that_does_not_come_again_is_forgotten(pretend: Pretend, monkeypatch: pytest.MonkeyPatch) -> None:
    choose(PROBLEM, timer=pretend(native=100.0))
    later(monkeypatch)
    assert ";" not in choose(PROBLEM, timer=pretend()).why
    assert kinds() == ["choice"]


@pytest.mark.parametrize(
    "before", [None, 1, {}, {"disturbed": True, "seconds": {"a": 1}}, {"disturbed": False, "seconds": {"a": "x"}}]
)
def test_what_does_not_agree(before: object) -> None:
    assert not agreed(before, {"a": 1.0})
    assert agreed({"disturbed": False, "seconds": {"a": 1.2}}, {"a": 1.0})
    assert not agreed({"disturbed": False, "seconds": {"a": 2.0}}, {"a": 1.0})


def test_doubts_are_listed_and_cleared_alone(pretend: Pretend, monkeypatch: pytest.MonkeyPatch) -> None:
    choose(PROBLEM, timer=pretend())
    make_quiet(monkeypatch, meanwhile="other programs")
    choose(PROBLEM.with_(batch=3), timer=pretend())
    runner = CliRunner()
    assert "1 choice, 0 products and 1 doubtful measurement" in runner.invoke(app, ["cache", "list"]).stdout
    assert "and 1 doubtful measurement" in runner.invoke(app, ["cache", "clear", "--doubtful"]).stdout
    assert kinds() == ["choice"]


def test_another_process_is_waited_for_and_not_for_ever(pretend: Pretend, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store()
    store.lock.parent.mkdir(parents=True, exist_ok=True)
    monkeypatch.setattr(tzwc.autotune.facts, "PATIENCE", 0.01)
    timer = pretend()
    with FileLock(store.lock):
        assert "another process" in choose(PROBLEM, timer=timer).why
    assert timer.calls == 0
    assert choose(PROBLEM, timer=timer).source == "measured"


def test_the_lock_of_a_process_that_was_killed_holds_nobody(pretend: Pretend) -> None:
    store = Store()
    store.lock.parent.mkdir(parents=True, exist_ok=True)
    script = (
        "import sys, filelock; lock = filelock.FileLock(sys.argv[1]); lock.acquire(); print(1, flush=True); input()"
    )
    run = [sys.executable, "-c", script, str(store.lock)]
    with subprocess.Popen(run, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        holder.kill()
    assert choose(PROBLEM, timer=pretend()).source == "measured"


def test_what_another_process_found_meanwhile_is_read(pretend: Pretend, monkeypatch: pytest.MonkeyPatch) -> None:
    def found_meanwhile(_: Store) -> Any:
        monkeypatch.undo_alone()  # type: ignore[attr-defined]
        choose(PROBLEM, timer=first)
        return alone(_)

    first, alone = pretend(), tzwc.autotune.facts._alone
    monkeypatch.undo_alone = lambda: monkeypatch.setattr(tzwc.autotune.facts, "_alone", alone)  # type: ignore[attr-defined]
    monkeypatch.setattr(tzwc.autotune.facts, "_alone", found_meanwhile)
    second = FakeTimer()
    assert choose(PROBLEM, timer=second).source == "remembered"
    assert second.calls == 0


def test_ranks_choose_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    store = dist.HashStore()
    assert same_on_all_ranks({"a": 1}, "fft", ["fft"]) == "fft"  # no group
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_world_size", lambda: 2)
    monkeypatch.setattr(dist.distributed_c10d, "_get_default_store", lambda: store)
    assert same_on_all_ranks({"a": 1}, "fft", ["fft", "native"]) == "fft"
    assert same_on_all_ranks({"a": 1}, "native", ["fft", "native"]) == "fft"
    assert same_on_all_ranks({"a": 1}, "native", ["native"]) == "native"
    assert same_on_all_ranks({"a": 2}, "native", ["fft", "native"]) == "native"
