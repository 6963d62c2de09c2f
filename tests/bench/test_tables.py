"""What people are shown of measurements that failed, that were never made, or that have nothing beside them."""

from __future__ import annotations

from collections.abc import Callable
from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from tests.support.bench_records import record
from tzwc.bench.breaks import Breaks
from tzwc.bench.cache import cache
from tzwc.bench.cache.check_cost import CheckCost
from tzwc.bench.cache.tables import show_cache
from tzwc.bench.capture import capture
from tzwc.bench.capture import cells as capture_cells
from tzwc.bench.capture.outcome import Outcome
from tzwc.bench.capture.tables import show_capture
from tzwc.bench.convolution.run import ConvolutionBench
from tzwc.bench.convolution.run import Request as ConvolutionRequest
from tzwc.bench.convolution.tables import show_convolution
from tzwc.bench.model import cells as model_cells
from tzwc.bench.model.tables import show_cell
from tzwc.util.timing import Timing


def shown(show: Callable[[Any, Console], None], bench: object) -> str:
    console = Console(file=StringIO(), width=200, color_system=None)
    show(bench, console)
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


def test_captures_that_failed_or_found_a_fault() -> None:
    contenders = (
        capture_cells.Contender("compile", 1.5, error="Unsupported: [no] branches"),
        capture_cells.Contender("tzwc", 2.0, Timing("tzwc", (0.25, 0.25)), 0.0, float("inf")),
    )
    outcome = Outcome("untouched", 0, 3, ("forward reads [a] file",))
    none, cells = Breaks(0, 0, 0, 0, 0), (capture_cells.Cell(2, contenders),)
    text = shown(show_capture, capture.CaptureBench(capture.Request("digits"), 5, none, none, cells, outcome))
    assert "tzwc: untouched; graphs 0; assumptions 3\n  forward reads [a] file\n" in text
    assert "batch 2, compile: Unsupported: [no] branches" in text
    assert "batch 2: nothing to compare tzwc with" in text
    failed, ours = (next(line for line in text.splitlines() if f"│ {name} " in line) for name in ("compile", "tzwc"))
    assert [cell.strip() for cell in failed.split("│")][3:-1] == ["failed", "", "1.5 s", "", ""]
    assert [cell.strip() for cell in ours.split("│")][-3:-1] == ["0.0e+00", "wrong"]


def test_a_capture_without_tzwc() -> None:
    none, timed = Breaks(0, 0, 0, 0, 0), capture_cells.Contender("eager", 1.0, Timing("eager", (1.0, 1.0)))
    cells = (capture_cells.Cell(2, (timed,)),)
    text = shown(show_capture, capture.CaptureBench(capture.Request("digits"), 5, none, none, cells, None))
    assert "tzwc:" not in text
    assert "1000.00 ms" in text


def test_a_cache_contender_that_failed() -> None:
    timing = Timing("", (1e-6, 2e-6))
    check = CheckCost(True, 5, 3, 2, 1, 64, timing, timing, {"version": timing}, {"version": timing})
    failed = cache.Contender("freezing", 3.0, error="RuntimeError: [no] compiler")
    preset = cache.PresetBench("digits", check, (cache.Cell(4, (failed,)),))
    text = shown(show_cache, cache.CacheBench(cache.Request(), (preset,)))
    assert "digits, batch 4, freezing: RuntimeError: [no] compiler" in text
    row = next(line for line in text.splitlines() if "│ freezing " in line)
    assert [cell.strip() for cell in row.split("│")][4:-1] == ["failed", "", "", "3.0 s", "", ""]


def test_a_convolution_bench_shows_what_was_measured_and_no_more() -> None:
    nothing = ConvolutionBench(ConvolutionRequest())
    assert nothing.goals() == {}
    assert nothing.summary() == {"goals": {}}
    headings = ("regret:", "against torch.compile", "peak memory")
    assert not any(heading in shown(show_convolution, nothing) for heading in headings)
    problem = {"batch": 2, "in_channels": 3, "out_channels": 4, "groups": 1, "lengths": [16, 8], "kernel": [5, 3]}
    rows = [record("fft", {"fft": 3e-3, "native": 2e-3}), record("native", {"fft": 3e-3, "native": 2e-3})]
    case = {"case": 7, "problem": problem, "directions": rows}
    text = shown(show_convolution, ConvolutionBench(ConvolutionRequest(), [case]))
    assert text.count("2, 3→4, groups 1, 16×8, K 5×3") == 1  # of the direction where the choice was the best, no row
    assert "fft 3 ms" in text
    assert "native 2 ms" in text
    assert "missed: p95 ≤ 1.10" in text
    assert [heading in text for heading in headings] == [True, False, False]
    memory = [{"case": 0, "peak bytes": {"native": 2**20, "fft": 3 * 2**20}}, {"case": 1, "peak bytes": {"fft": 8}}]
    fixed = [{"name": "a", "goal": 8.0, "ratio": 9.0, "compiled": 0.009, "chosen": 0.001, "algorithms": ["fft"] * 3}]
    text = shown(show_convolution, ConvolutionBench(ConvolutionRequest(), [], fixed, [], memory))
    assert [heading in text for heading in headings] == [False, True, True]
    assert "met: a ≥ 8×" in text
    assert "9 ms" in text


@pytest.mark.parametrize("error", ["", "ProcessError: [no] answer"])
def test_a_model_cell_without_a_yardstick_or_a_peer(error: str) -> None:
    ours = model_cells.Contender("tzwc", 1.0, timing=Timing("tzwc", (1.0, 1.0)), note="whole graph [1]")
    cell = model_cells.Cell(model_cells.Plan("digits", 4, "inference"), model_cells.Yard(error=error), (ours,))
    text = shown(show_cell, cell)
    assert "matrix products:" not in text
    assert "peer:" not in text
    assert "tzwc: whole graph [1]" in text
    assert ("nothing to compare with: ProcessError: [no] answer" in text) is bool(error)
