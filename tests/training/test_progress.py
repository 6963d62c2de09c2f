"""What a run says while it goes: the time left, lines in a log, and terminals that go away."""

from __future__ import annotations

import errno
import io
import signal
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tests.support.training_toy import RECIPE, make_data, make_model
from tzwc.training import Interrupted, Trainer, progress
from tzwc.training.progress import Pace, Progress, duration


class Clock:
    """Stands for ``time`` in the module; time passes when the test says so."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(progress, "time", found)
    return found


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min"),
        (200, "3 min 20 s"),
        (7500, "2 h 5 min"),
        (3599.9, "1 h"),
        (97_500, "1 d 3 h"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_the_time_left_does_not_count_what_is_compiled(clock: Clock) -> None:
    pace = Pace(per_epoch=10, end=30)
    clock.now += 100  # the first step
    pace.step()
    assert pace.left(1) is None
    for _ in range(9):
        clock.now += 2
        pace.step()
    assert pace.left(10) == 40
    clock.now += 80  # the first evaluation
    pace.evaluation()
    assert pace.left(10) == 40
    for _ in range(10):
        clock.now += 2
        pace.step()
    clock.now += 5
    pace.evaluation()
    assert pace.left(20) == 20 + 5


def test_a_limit_bounds_the_time_left(clock: Clock) -> None:
    pace = Pace(per_epoch=10, end=1000, seconds=60)
    for _ in range(3):
        clock.now += 2
        pace.step()
    assert pace.left(3) == 54


def shown(**options: Any) -> Progress:
    return Progress("toy", Console(file=io.StringIO(), width=60, **options))


def text_of(found: Progress) -> str:
    assert found._console is not None
    assert isinstance(found._console.file, io.StringIO)
    return found._console.file.getvalue()


def test_a_log_has_a_line_an_epoch_with_the_time_left(clock: Clock) -> None:
    found = shown()
    run = Trainer(make_model(), make_data(), RECIPE, progress=found)
    run.model.register_forward_pre_hook(lambda module, _: passes(clock, 20 if module.training else 0))
    run.fit()
    lines = text_of(found).splitlines()
    assert lines[0] == "toy: 9 steps …"
    assert [line.split(",")[0] for line in lines[1:]] == [f"toy: epoch {n} of 3" for n in (1, 2, 3)]
    assert [line.rpartition(", ")[2] for line in lines[1:3]] == ["2 min left", "1 min left"]
    assert "left" not in lines[3]


def test_a_long_epoch_says_every_minute_how_far_it_is(clock: Clock) -> None:
    found = shown()
    run = Trainer(make_model(), make_data(), RECIPE, progress=found)
    run.model.register_forward_pre_hook(lambda *_: passes(clock, 45))
    run.fit(steps=3)
    lines = text_of(found).splitlines()
    assert lines[0] == "toy: 3 steps …"
    assert lines[1].startswith("toy: step 2 of 3, loss ")
    assert lines[1].endswith(", 45 s left")
    assert lines[2].startswith("toy: epoch 1 of 3")


def passes(clock: Clock, seconds: float) -> None:
    clock.now += seconds


def test_a_terminal_shows_the_time_left(clock: Clock) -> None:
    found = shown(force_terminal=True)
    with found.running(0, 9, per_epoch=3, epochs=3):
        for _ in range(3):
            passes(clock, 20)
            found.advance(0.5)
        assert found._bar is not None
        assert found._bar.tasks[0].fields == {"said": "loss 0.500", "left": "2 min left"}
    assert found._bar is None


class Gone(io.StringIO):
    """A terminal that has been closed, or a pipe whose reader has ended."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number

    def write(self, _text: str) -> int:
        raise OSError(self.number, "gone")


@pytest.mark.parametrize("number", [errno.EIO, errno.EPIPE])
def test_a_run_outlives_its_terminal(number: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Ctrl-C also ends the ``tee`` of ``tzwc train … 2>&1 | tee log``."""
    found = Progress.shown("toy")
    run = Trainer(make_model(), make_data(), RECIPE, progress=found, folder=tmp_path)
    monkeypatch.setattr("sys.stderr", Gone(number))
    run.model.register_forward_hook(lambda *_: signal.raise_signal(signal.SIGHUP))
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # tests that run under nohup have it ignored
    try:
        with pytest.raises(Interrupted, match="after step 1 of 9") as caught:
            run.fit()
    finally:
        signal.signal(signal.SIGHUP, before)
    assert caught.value.number == signal.SIGHUP
    assert (tmp_path / "last.safetensors").exists()
