"""Dumps and logs that environment variables ask for."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import tzwc
from tests.support.programs import HyperConv, example
from tzwc.ir.logs import configure, passes_log

ROOT = Path(__file__).parents[2]
PROGRAM = """
import torch, tzwc
from tests.support.programs import HyperConv, example
fast = tzwc.compile(HyperConv().double(), backend="eager")
with torch.no_grad():
    fast(example())
"""


def _run(**environment: str) -> str:
    unset = {name: value for name, value in os.environ.items() if name not in ("TZWC_LOG", "TZWC_DUMP", "TORCH_LOGS")}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env={**unset, **environment},
    )
    return done.stderr


def test_every_graph_is_dumped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZWC_DUMP", str(tmp_path))
    fast = tzwc.compile(HyperConv().double(), backend="eager")
    with torch.no_grad():
        fast(example())
    fast(example())
    [folder] = tmp_path.iterdir()
    assert folder.name.startswith(f"HyperConv-{os.getpid()}-")
    assert {"00-inference", "01-gradients", "report.txt"} <= {path.name for path in folder.iterdir()}


def test_a_folder_that_cannot_be_written_to_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    fast = tzwc.compile(HyperConv().double(), backend="eager")
    monkeypatch.setenv("TZWC_DUMP", str(tmp_path / "file"))
    monkeypatch.setattr(passes_log, "propagate", True)
    with caplog.at_level(logging.WARNING):
        fast(example())
    assert "cannot be written to" in caplog.text


def test_logs_in_the_format_of_torch() -> None:
    said = _run(TZWC_LOG="passes,remarks,cache")
    assert "hoist_static: " in said
    assert "[hoist_static/keep] applied" in said
    assert "kept values for the first time" in said
    assert "[0/" not in said
    assert "I1" in said or "I0" in said  # level and date, as torch writes them
    assert "hoist_static: " not in _run(TZWC_LOG="cache")
    assert "kept values for the first time" not in _run(TZWC_LOG="all,-cache")
    assert _run(TZWC_LOG="all", TORCH_LOGS="tzwc").count("hoist_static: ") == said.count("hoist_static: ")
    assert _run() == ""


@pytest.mark.parametrize("setting", ["tzwc", "+tzwc"])
def test_torch_logs_knows_the_name(setting: str) -> None:
    said = _run(TORCH_LOGS=setting)
    assert "[hoist_static/keep] applied" in said
    assert said.count("[hoist_static/keep] applied") == 1


def test_unknown_names_are_warned_about() -> None:
    with pytest.warns(UserWarning, match="'remark' is unknown; choose from .*did you mean 'remarks'"):
        configure("remark")
    assert "'nonsense' is unknown" in _run(TZWC_LOG="nonsense")
