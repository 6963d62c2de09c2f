"""Runs tests on a copy of the repository, each time in a process forked from one that has imported torch already."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import coverage
import pytest

from tests.faults.targets import ROOT

__all__ = ["Outcome", "Recorded", "copy_repository", "record", "run_tests"]

_COPIED = ("tzwc", "passes", "models", "tests", "examples", "pyproject.toml")
# Hypothesis has been imported before pytest could rewrite it, of which pytest would warn.
_QUIET = ("-q", "--tb=short", "-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning")


@dataclass(frozen=True)
class Recorded:
    """One test as it ran on the program without faults.

    Attributes:
        seconds: how long it took.
        lines: which lines of which target files it executed.
    """

    seconds: float
    lines: dict[str, list[int]]


@dataclass(frozen=True)
class Outcome:
    """How a run ended: which test failed first and why; no test when all passed."""

    test: str = ""
    why: str = ""


def copy_repository(to: Path) -> None:
    """What tests need, without what was compiled: the copy makes that itself."""
    for name in _COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, to / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, to / name)


def record(root: Path, files: Sequence[str], targets: Sequence[str]) -> dict[str, Recorded]:
    """Run test files on the faultless program and note what each test executes.

    Raises:
        RuntimeError: a test fails without any fault.
    """
    answer = _in_child(root, lambda: _record(root, files, targets), limit=3600.0)
    if answer is None or answer["failed"]:
        raise RuntimeError(f"tests fail without a fault: {answer}")
    return {name: Recorded(**values) for name, values in answer["tests"].items()}


def run_tests(root: Path, seconds: Mapping[str, float]) -> Outcome:
    """Run tests until one fails, the quickest first.

    Args:
        root: the copy.
        seconds: the tests, and how long each takes without a fault. Ten times that, and ten seconds, is its limit.
    """
    if not seconds:
        return Outcome()
    answer = _in_child(root, lambda: _run(seconds), limit=120.0 + 10.0 * sum(seconds.values()))
    return Outcome("(all)", "time limit, or the process died") if answer is None else Outcome(**answer)


def _record(root: Path, files: Sequence[str], targets: Sequence[str]) -> dict[str, Any]:
    recorder = _Recorder(root, targets)
    code = pytest.main([*_QUIET, *files], plugins=[recorder, _Library()])
    return {"failed": int(code), "tests": {name: asdict(test) for name, test in recorder.tests().items()}}


def _run(seconds: Mapping[str, float]) -> dict[str, str]:
    sys.dont_write_bytecode = True  # bytecode is found by a file's time and size, and a fault may change neither
    runner = _Runner(seconds)
    files = dict.fromkeys(name.partition("::")[0] for name in seconds)
    code = pytest.main([*_QUIET, "-x", *files], plugins=[runner, _Library()])
    if code not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED) and not runner.outcome.test:
        return asdict(Outcome("(import)", f"pytest ended with {code!r}"))
    return asdict(runner.outcome)


class _Library:
    """Lets tests use the compiled extension in the user's cache, instead of each run starting to compile its own."""

    def pytest_collection_finish(self) -> None:
        with contextlib.suppress(ImportError):
            from tzwc.native.build import default_directory
            from tzwc.native.loader import extension

            extension._directory = default_directory()


class _Recorder:
    def __init__(self, root: Path, targets: Sequence[str]) -> None:
        self._targets = {str((root / name).resolve()): name for name in targets}
        self._coverage = coverage.Coverage(data_file=None, config_file=False, include=list(self._targets))
        self._seconds: dict[str, float] = {}

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        begun = time.perf_counter()
        self._coverage.start()
        self._coverage.switch_context(item.nodeid)
        try:
            return (yield)
        finally:
            self._coverage.stop()
            self._seconds[item.nodeid] = time.perf_counter() - begun

    def tests(self) -> dict[str, Recorded]:
        data = self._coverage.get_data()
        tests = {name: Recorded(seconds, {}) for name, seconds in self._seconds.items()}
        for path, target in self._targets.items():
            for line, names in data.contexts_by_lineno(path).items():
                for name in names:
                    tests[name].lines.setdefault(target, []).append(line)
        return tests


@dataclass
class _Runner:
    seconds: Mapping[str, float]
    outcome: Outcome = field(default_factory=Outcome)

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = sorted((i for i in items if i.nodeid in self.seconds), key=lambda i: self.seconds[i.nodeid])

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        def too_long(number: int, frame: object) -> None:
            del number, frame
            _answer(asdict(Outcome(item.nodeid, "time limit")))
            os._exit(0)  # an exception could be caught by what is under test

        signal.signal(signal.SIGALRM, too_long)
        signal.setitimer(signal.ITIMER_REAL, 10.0 + 10.0 * self.seconds[item.nodeid])
        try:
            return (yield)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed and not self.outcome.test:
            crash = getattr(report.longrepr, "reprcrash", None)
            self.outcome = Outcome(report.nodeid, str(crash.message if crash else report.longrepr).split("\n")[0])


_ANSWER = "answer.json"


def _answer(value: object) -> None:
    Path(_ANSWER).resolve().write_text(json.dumps(value))


def _in_child(root: Path, work: Callable[[], object], limit: float) -> Any:
    """What ``work`` returns in a forked process whose directory is ``root``; None where it did not return in time."""
    answer = root / _ANSWER
    answer.unlink(missing_ok=True)
    gc.collect()
    gc.freeze()  # the tests collect garbage, and are not to look through all that was imported here
    child = os.fork()
    if child == 0:
        try:
            _prepare(root)
            value = work()
            answer.write_text(json.dumps(value))
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(0)
    end = time.monotonic() + limit
    while os.waitpid(child, os.WNOHANG) == (0, 0):
        if time.monotonic() > end:
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return None
        time.sleep(0.02)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)  # what it has started
    return json.loads(answer.read_text()) if answer.exists() else None


def _prepare(root: Path) -> None:
    os.setsid()
    os.chdir(root)
    log = os.open(root / "output.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1)
    os.dup2(log, 2)
    # The tests and the library of the copy, here and in processes that tests start.
    for name in [n for n in sys.modules if n.partition(".")[0] in ("tests", "tzwc")]:
        del sys.modules[name]
    sys.path.insert(0, str(root))
    os.environ.update(PYTHONPATH=str(root), HYPOTHESIS_PROFILE="faults")
