"""Training in a process of its own, on a terminal, and Ctrl-C."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tzwc.training import Trainer

pty = pytest.importorskip("pty")


# The task ``digits`` with a model that takes milliseconds a step, in a process that is otherwise ``tzwc``.
SMALL = """
import dataclasses, sys
from tests.support.training_toy import SPEC
from tzwc.training import TASKS, Recipe, tasks
small = dataclasses.replace(SPEC, sizes=(8, 8), classes=10)
tasks.TASKS = {**TASKS, "digits": tasks.Task("digits", "digits", small, Recipe(epochs=2000, warm_up=0))}
if "bench" in sys.argv:
    from tzwc.bench.train import run
    work = run._work
    run._work = lambda name: (work(name)[0], small)
from tzwc.cli.main import main
main()
"""


RUN = (sys.executable, "-c", SMALL)


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


def hold(first: int) -> None:
    """Make the steps behind ``first`` last until a second signal ends one of them."""
    batch = Trainer._batch

    def slow(self: Trainer) -> object:
        if self.step - first in (1, 2):
            time.sleep(300)
        return batch(self)

    Trainer._batch = slow  # type: ignore[assignment, method-assign]
