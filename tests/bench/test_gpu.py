"""``benchmarks/gpu.py`` on a CPU: the same path from end to end, and what it says of contenders that fail."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

import tzwc.bench.model.run
from tests.support.bench_models import FAKE, ONE_BLOCK, alive
from tzwc.bench.model.cells import Cell, Contender, Plan, Yard
from tzwc.util.timing import Timing


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    import gpu as module

    return module


def test_without_a_gpu_it_says_so(
    gpu: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu.main([]) == 2
    found = capsys.readouterr()
    assert found.out == ""
    assert found.err.count("\n") == 1
    assert "no CUDA GPU" in found.err


@pytest.mark.slow(reason="twelve processes import torch")
def test_everything_but_the_gpu(
    gpu: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "one_block.py").write_text(ONE_BLOCK)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(gpu, "_CELL", 600.0)  # a busy machine
    given = "--device cpu --presets one_block:model --contenders eager,tzwc --backend eager --batch 2 --rounds 2"
    code = gpu.main([*given.split(), "--no-tests", "--seconds", "3000", "--out", str(tmp_path / "table.md")])
    text = capsys.readouterr().out
    assert code == 0, text
    assert (tmp_path / "table.md").read_text() == text
    rows = [[part.strip() for part in line.split("|")[1:-1]] for line in text.splitlines() if "one_block" in line]
    assert [row[2:5] for row in rows] == [
        [mode, precision, contender]
        for precision in ("float32", "bfloat16")
        for mode in ("inference", "training")
        for contender in ("eager", "tzwc")
    ]
    for row in rows:
        assert float(row[5]) > 0
        assert "failed" not in row[10]
        assert 0 < float(row[9]) <= 1
        assert "wrong" not in row[10]
    assert "Skipped" not in text


@pytest.fixture
def pids(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    folder = tmp_path / "pids"
    folder.mkdir()
    monkeypatch.setenv("PIDS", str(folder))
    monkeypatch.setattr(tzwc.bench.model.run, "_COMMAND", (sys.executable, "-c", FAKE))
    return folder


def test_what_dies_or_hangs_has_a_row_and_ends_in_time(gpu: Any, pids: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``compile`` hangs, ``contiguous`` raises, ``max_autotune`` exits, ``freezing`` dies between two rounds."""
    monkeypatch.setattr(gpu, "_CELL", 30.0)
    names = ("eager", "contiguous", "max_autotune", "freezing", "compile", "tzwc")
    options = gpu.Options("cpu", ("digits",), names, rounds=2)
    cells: list[Cell] = []
    monkeypatch.setattr(gpu, "plans", lambda _: [Plan("digits", 2, "inference"), Plan("smnist", 2, "inference")])
    monkeypatch.setattr(gpu, "_LEAST", 1000.0)
    skipped = "\n".join(gpu.report(options, time.monotonic(), "none", cells))
    assert "Skipped, no time was left: digits, batch 2, inference; smnist, batch 2, inference." in skipped
    monkeypatch.setattr(gpu, "_LEAST", 1.0)
    monkeypatch.setattr(gpu, "plans", lambda _: [Plan("digits", 2, "inference")])
    text = "\n".join(gpu.report(options, time.monotonic() + 1000, "none", cells))
    rows = {c.name: c for c in cells[0].contenders}
    assert rows["eager"].timing is not None
    assert "**failed**: ValueError: [no] layout" in text
    assert "**failed**: the process ended with exit code 1: no compiler" in text
    assert "**failed**: the process ended with exit code 5" in text
    assert "no answer within" in rows["compile"].error
    assert rows["tzwc"].error == "no time was left"
    assert "| digits | 2 | inference | float32 | tzwc |" in text
    assert alive(pids) == []


def test_a_table_of_cells(gpu: Any) -> None:
    killed = "the process was killed, as happens when memory runs out: a|b"
    contenders = (
        Contender("eager", 0.5, 1, 2_000_000, Timing("eager", (0.02, 0.02)), {"all": 0.05}),
        Contender("tzwc", 20.0, 1, 1_000_000, Timing("tzwc", (0.01, 0.01)), {"all": 0.3}, "whole graph"),
        Contender("reduce_overhead", error=killed),
    )
    cell = Cell(Plan("cifar10", 64, "inference", "bfloat16"), Yard({"all": 0.1}), contenders)
    assert list(gpu.rows(cell)) == [
        "| cifar10 | 64 | inference | bfloat16 | eager | 20 | 1.00 | 0.5 | 2 | 0.5 |  |",
        "| cifar10 | 64 | inference | bfloat16 | tzwc | 10 | 2.00 | 20.0 | 1 | 3 | **wrong** |",
        "| cifar10 | 64 | inference | bfloat16 | torch.compile, reduce-overhead |  |  |  |  |  | **failed**: "
        "the process was killed, as happens when memory runs out: a\\|b |",
    ]


@pytest.mark.parametrize(
    ("code", "failed", "said"),
    [
        ("def test_it(): pass", False, "1 passed"),
        ("def test_it(): assert False", True, "1 failed"),
        ("import os; os._exit(7)", True, "exit code 7"),
        ("import time; time.sleep(600)", True, "not done within"),
    ],
)
def test_tests_that_fail_die_or_hang(code: str, failed: bool, said: str, gpu: Any, tmp_path: Path) -> None:
    path = tmp_path / "test_one.py"
    path.write_text(code + "\n")
    found, text = gpu.run_tests(
        2.0 if "sleep" in code else 300.0, (f"--rootdir={tmp_path}", "-c", "/dev/null", str(path))
    )
    assert (found, said in text) == (failed, True), text
