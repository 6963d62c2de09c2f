"""Ctrl-C on a real terminal, in processes of their own: exit codes, what is said, and what is kept."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.support.interruption import RUN, SMALL, press
from tzwc.training import Checkpoint

pytestmark = pytest.mark.slow(reason="every test starts the command and waits for epochs")

AGAIN = "again stops at once"
TRAIN = (*RUN, "train", "digits", "--with", "eager", "--out", "run", "--threads", "1")


def test_ctrl_c_stops_behind_a_step_and_the_run_goes_on(tmp_path: Path) -> None:
    code, shown = press(TRAIN, tmp_path, "epoch 2 of 2000")
    assert code == 130, shown
    assert "Traceback" not in shown
    saved = Checkpoint.load(tmp_path / "run")
    assert f"stopped after step {saved.step} of 44000; --resume goes on from run/last.safetensors" in shown


@pytest.mark.parametrize("awaited", ["loss ", "epoch 1 of 2000"], ids=["first epoch", "second epoch"])
def test_a_second_ctrl_c_stops_at_once_and_leaves_the_last_epoch(awaited: str, tmp_path: Path) -> None:
    first = 0 if awaited == "loss " else 22
    held = f"from tests.support.interruption import hold; hold({first})\nfrom tzwc.cli.main"
    slow = SMALL.replace("from tzwc.cli.main", held)
    code, shown = press((sys.executable, "-c", slow, *TRAIN[3:]), tmp_path, awaited, AGAIN)
    assert code == 130, shown
    assert "Traceback" not in shown
    if awaited == "loss ":
        assert "of 44000; nothing was kept yet" in shown
        assert list((tmp_path / "run").iterdir()) == []
    else:
        assert "--resume goes on from run/last.safetensors, as it was" in shown
        assert Checkpoint.load(tmp_path / "run").step % 22 == 0
        assert not list((tmp_path / "run").glob(".*"))
