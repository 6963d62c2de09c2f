"""Ctrl-C on a real terminal, in processes of their own: exit codes, what is said, and what is kept."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tzwc.training import Checkpoint, Trainer

pty = pytest.importorskip("pty")
pytestmark = pytest.mark.slow(reason="every test starts the command and waits for epochs")

# The task ``digits`` with a model that takes milliseconds a step, in a process that is otherwise ``tzwc``.
SMALL = """
import dataclasses, sys
from tests.support.training_toy import SPEC
from tzwc.training import TASKS, Recipe, presets
small = dataclasses.replace(SPEC, sizes=(8, 8), classes=10)
presets.TASKS = {**TASKS, "digits": presets.Task("digits", "digits", small, Recipe(epochs=2000, warm_up=0))}
if "bench" in sys.argv:
    from tzwc.bench import train
    work = train._work
    train._work = lambda name: (work(name)[0], small)
from tzwc.cli.main import main
main()
"""
AGAIN = "again stops at once"
RUN = (sys.executable, "-c", SMALL)
TRAIN = (*RUN, "train", "digits", "--with", "eager", "--out", "run", "--threads", "1")


def press(command: tuple[str, ...], folder: Path, *awaited: str) -> tuple[int, str]:
    """Run ``command`` on a terminal, and press Ctrl-C each time that the next of ``awaited`` has appeared.

    Returns:
        Exit code, and all that was shown.
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "COLUMNS": "200", "TERM": "xterm"}
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        command, cwd=folder, env=environment, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
    )
    os.close(theirs)
    shown, pending, end = "", list(awaited), time.monotonic() + 600
    try:
        while time.monotonic() < end:
            if not select.select([ours], [], [], 1.0)[0]:
                continue
            try:
                part = os.read(ours, 65536)
            except OSError:  # how Linux says that nobody holds the other side any more
                break
            if not part:
                break
            shown += part.decode(errors="replace")
            if pending and pending[0] in shown:
                pending.pop(0)
                os.killpg(process.pid, signal.SIGINT)  # as the terminal does
        code = process.wait(timeout=300)
    finally:
        process.kill()
        os.close(ours)
    assert not pending, shown
    return code, shown


def test_ctrl_c_stops_behind_a_step_and_the_run_goes_on(tmp_path: Path) -> None:
    code, shown = press(TRAIN, tmp_path, "epoch 2 of 2000")
    assert code == 130, shown
    assert "Traceback" not in shown
    saved = Checkpoint.load(tmp_path / "run")
    assert f"stopped after step {saved.step} of 44000; --resume goes on from run/last.safetensors" in shown


@pytest.mark.parametrize("awaited", ["loss ", "epoch 1 of 2000"], ids=["first epoch", "second epoch"])
def test_a_second_ctrl_c_stops_at_once_and_leaves_the_last_epoch(awaited: str, tmp_path: Path) -> None:
    first = 0 if awaited == "loss " else 22
    held = f"from tests.training.test_interruption import hold; hold({first})\nfrom tzwc.cli.main"
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


def hold(first: int) -> None:
    """Make the steps behind ``first`` last until a second signal ends one of them."""
    batch = Trainer._batch

    def slow(self: Trainer) -> object:
        if self.step - first in (1, 2):
            time.sleep(300)
        return batch(self)

    Trainer._batch = slow  # type: ignore[assignment, method-assign]
