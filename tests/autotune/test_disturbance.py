"""What is seen of work that takes processors from a measurement; processes of their own that choose, quiet or not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tzwc.autotune import disturbance
from tzwc.autotune.disturbance import busy, settled, working
from tzwc.native.loader import Extension
from tzwc.util.disk_cache import Store

pytestmark = pytest.mark.skipif(not Path("/proc/stat").exists(), reason="no /proc")


@pytest.fixture(autouse=True)
def quiet() -> None:
    """The real thing, in place of the fake of other tests."""


@pytest.fixture
def spinning() -> Iterator[None]:
    """A process that computes on each core."""
    run = [sys.executable, "-c", "while True: pass"]
    processes = [subprocess.Popen(run) for _ in range(os.cpu_count() or 1)]
    yield
    for process in processes:
        process.kill()
        process.wait()


def test_work_of_another_thread_is_seen_and_that_of_this_one_is_not() -> None:
    with working("a capture"):
        assert busy() is None
        seen: list[str | None] = []
        other = threading.Thread(target=lambda: seen.append(busy()))
        other.start()
        other.join()
    assert seen == ["a capture in another thread"]
    assert busy() is None


class FakeExtension:
    """One that begins to build when it is requested, and fails after ``seconds``, or never ends."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.building = False
        self.requested = 0
        self.waits: list[float] = []

    def request(self) -> None:
        self.building = self.requested == 0 or self.building
        self.requested += 1

    def wait(self, timeout: float) -> None:
        self.waits.append(timeout)
        self.building = self.seconds > timeout


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that has not waited yet."""
    monkeypatch.setattr(disturbance, "_spent", {"extension": 0.0, "children": 0.0})


@pytest.mark.usefixtures("fresh")
def test_the_build_is_requested_and_waited_for_and_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeExtension(float("inf"))
    monkeypatch.setattr(disturbance, "extension", fake)
    assert settled() == "the build of the native extension"
    assert fake.requested
    assert fake.waits == [disturbance.PATIENCE]
    monkeypatch.setitem(disturbance._spent, "extension", disturbance.PATIENCE)
    settled()
    assert len(fake.waits) == 1
    fake.building = False
    assert settled() is None


@pytest.mark.usefixtures("fresh")
def test_a_build_that_fails_costs_no_more_than_its_own_time(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeExtension(0.0)
    monkeypatch.setattr(disturbance, "extension", fake)
    assert settled() is None
    assert settled() is None
    assert len(fake.waits) == 1


@pytest.mark.usefixtures("fresh")
def test_nothing_is_built_where_python_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeExtension(float("inf"))
    monkeypatch.setattr(disturbance, "extension", fake)
    monkeypatch.setenv("TZWC_NATIVE", "0")
    assert settled() is None
    assert (fake.requested, fake.waits) == (0, [])


@pytest.mark.usefixtures("fresh")
def test_a_build_that_cannot_start_is_not_waited_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def no_more(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    extension = Extension(tmp_path)
    monkeypatch.setattr(disturbance, "extension", extension)
    monkeypatch.setattr(threading.Thread, "start", no_more)
    assert settled() is None
    assert (extension.building, extension.reason) == (False, "can't start new thread")


@pytest.mark.usefixtures("spinning")
def test_children_that_compute_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disturbance, "CHILDREN", 0.0)
    assert str(settled()).endswith("a child of this process")


@pytest.mark.parametrize(("worked", "seen"), [(0.5, None), (1.2, None), (1.9, "other programs")])
def test_others_may_take_the_cores_that_torch_does_not_use(
    worked: float, seen: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One thread of two cores: ``worked`` of them by others."""
    readings = iter([(0.0, 0.0), (2.0, worked)])
    monkeypatch.setattr(disturbance, "_counters", lambda: next(readings))
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    monkeypatch.setattr(disturbance, "_WINDOW", 0.0)
    monkeypatch.setattr(disturbance, "_WAITED", 1.0)
    monkeypatch.setattr(disturbance.time, "process_time", lambda: 0.0)
    found = disturbance.Observation().end()
    assert (found or "").startswith(seen or "")
    assert (found is None) == (seen is None)


SCRIPT = """
import sys, json, torch; torch.set_num_threads(1)
from tzwc.ops.conv import Problem
from tzwc.autotune import choose
for n in range(1, 13):
    problem = Problem(n, 8, 8, 8, (256,), (2 * n + 1,), ((n, n),))
    choice = choose(problem)
    print(json.dumps([choice.algorithm, choice.source, choice.why, choice.to_dict()["candidates"]]))
"""


def start(folder: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "TZWC_CACHE_DIR": str(folder), "OMP_NUM_THREADS": "1"}
    run = [sys.executable, "-W", "error", "-c", SCRIPT]
    return subprocess.Popen(run, stdout=subprocess.PIPE, text=True, env=environment)


def choices(process: subprocess.Popen[str]) -> list[list[object]]:
    out, _ = process.communicate(timeout=300)
    assert process.returncode == 0
    return [json.loads(line) for line in out.splitlines()]


def check(found: list[list[object]]) -> None:
    """Facts and measurements agree with predictions; everything else says that it is to be measured again."""
    assert len(found) == 12
    for _, source, why, candidates in found:
        if "to be measured" in str(why):
            continue
        assert source in ("measured", "remembered")
        assert isinstance(candidates, dict)
        for one in candidates.values():
            if one["measured"] is not None and one["predicted"] is not None:
                assert 1 / 12 < one["measured"] / one["predicted"] < 12


@pytest.mark.slow(reason="three processes that import torch and choose twelve times")
def test_processes_share_what_they_find(tmp_path: Path) -> None:
    for found in [choices(process) for process in [start(tmp_path), start(tmp_path)]]:
        check(found)
    facts = sum(entry.kind == "choice" for entry in Store(tmp_path / "tuning").entries())
    again = choices(start(tmp_path))
    assert sum(source == "remembered" for _, source, *_ in again) >= facts


@pytest.mark.slow(reason="two processes that choose while all cores are busy")
@pytest.mark.usefixtures("spinning")
def test_on_busy_cores_nothing_becomes_a_fact_that_contradicts_predictions(tmp_path: Path) -> None:
    check(choices(start(tmp_path)))
    check(choices(start(tmp_path)))
