from __future__ import annotations

import gc
import time

import pytest

from tzwc.errors import InvalidArgumentError
from tzwc.util.timing import Timing, interleave, ratio


def test_contenders_take_turns_and_no_one_leads() -> None:
    seen: list[str] = []

    def contender(name: str) -> None:
        assert seen.append(name) is None
        time.sleep(0.002)

    calls = {name: (lambda name=name: contender(name)) for name in "abc"}
    timings = interleave(calls, rounds=3, shortest=0.0, warm_up=1)
    assert [t.name for t in timings] == ["a", "b", "c"]
    assert all(len(t.seconds) == 3 and t.median >= 0.002 for t in timings)
    assert "".join(seen) == "abc" + "abc" + "bca" + "cab"


def test_fast_contenders_are_called_several_times_a_round(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0

    def contender() -> None:
        nonlocal now
        now += 0.001

    monkeypatch.setattr(time, "perf_counter", lambda: now)
    (timing,) = interleave({"a": contender}, rounds=2, shortest=0.01, warm_up=1)
    assert round(now / 0.001) == 1 + 2 * 10
    assert timing.median == pytest.approx(0.001)


def test_time_limit_still_gives_two_rounds() -> None:
    (timing,) = interleave({"a": lambda: None}, rounds=100, longest=0.0)
    assert len(timing.seconds) == 2


def test_garbage_collection_is_put_back() -> None:
    states: list[bool] = []
    interleave({"a": lambda: states.append(gc.isenabled())}, rounds=2, shortest=0.0, warm_up=1)
    assert states == [True, False, False]
    assert gc.isenabled()
    gc.disable()
    try:
        interleave({"a": lambda: None}, rounds=2, shortest=0.0, warm_up=1)
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_ratio_is_taken_within_rounds() -> None:
    slow, fast = Timing("slow", (2.0, 20.0, 2.0)), Timing("fast", (1.0, 10.0, 1.0))
    assert ratio(slow, fast) == 2.0
    assert slow.median == 2.0
    assert slow.quartiles == (2.0, 11.0)


@pytest.mark.parametrize(("rounds", "warm_up"), [(1, 1), (2, 0)])
def test_too_few_calls_are_refused(rounds: int, warm_up: int) -> None:
    with pytest.raises(InvalidArgumentError, match="must be at least"):
        interleave({}, rounds=rounds, warm_up=warm_up)
