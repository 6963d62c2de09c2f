from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tzwc.bench.model.process import Process, ProcessError

Start = Callable[..., Process]

ECHO = """
import json, os, sys
for line in sys.stdin:
    request = json.loads(line)
    print(json.dumps({"got": request, "pid": os.getpid(), "FLAVOUR": os.environ.get("FLAVOUR")}), flush=True)
"""
CHILD = """
import json, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(json.dumps({"child": child.pid}), flush=True)
time.sleep(600)
"""


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    started: list[Process] = []

    def begin(program: str, **environment: str) -> Process:
        started.append(Process((sys.executable, "-c", program), environment, tmp_path / f"{len(started)}.log"))
        return started[-1]

    yield begin
    for process in started:
        process.end()


def gone(pid: int) -> bool:
    """Whether a process has ended, waiting for a while; one that nobody has waited for yet counts as ended."""
    for _ in range(15_000):
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
            os.kill(pid, 0)
        except (ProcessLookupError, FileNotFoundError):
            return True
        time.sleep(0.02)
    return False


def test_requests_are_answered_in_order_and_with_its_environment(start: Start) -> None:
    process = start(ECHO, FLAVOUR="sweet")
    for number in range(3):
        reply = process.ask({"number": number, "text": "ü\n"}, 300.0)
        assert reply["got"] == {"number": number, "text": "ü\n"}
        assert reply["FLAVOUR"] == "sweet"
    process.end()
    process.end()
    assert gone(reply["pid"])


def test_an_answer_longer_than_a_pipe(start: Start) -> None:
    text = "x" * 300_000
    assert start(ECHO).ask({"text": text}, 300.0)["got"] == {"text": text}


def test_one_that_takes_too_long_is_ended(start: Start) -> None:
    process = start("import time; time.sleep(600)")
    with pytest.raises(ProcessError, match=r"no answer within 0\.2 s"):
        process.ask({}, 0.2)


def test_all_that_it_has_started_ends_with_it(start: Start) -> None:
    process = start(CHILD)
    child = process.ask({}, 300.0)["child"]
    process.end()
    assert gone(child)


@pytest.mark.parametrize(
    ("program", "message"),
    [
        ("import sys; sys.exit('no compiler')", "exit code 1: no compiler"),
        ("import os; os._exit(3)", "exit code 3"),
        ("import os; os.kill(os.getpid(), 9)", "killed, as happens when memory runs out"),
        ("import os; os.kill(os.getpid(), 11)", "exit code -11"),
        ('print(\'{"error": "ValueError: no"}\')', "ValueError: no"),
    ],
)
def test_why_there_is_no_answer(start: Start, program: str, message: str) -> None:
    with pytest.raises(ProcessError, match=message):
        start(program).ask({"long": "x" * 100_000}, 300.0)
