"""The tables that ``tzwc bench capture`` prints for people."""

from __future__ import annotations

import math

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tzwc.bench.capture.capture import CaptureBench
from tzwc.bench.capture.cells import Cell, Contender

__all__ = ["show_capture"]


def show_capture(bench: CaptureBench, console: Console) -> None:
    """Print what was measured."""
    console.print(", ".join(f"{name} {value}" for name, value in bench.facts().items()))
    console.print(f"lazily initialised, {bench.parameters:,} parameters; in evaluation, without gradients\n")
    console.print(_breaks(bench))
    console.print("first forward: at the first batch size; afterwards: at all of them, the model called before\n")
    if bench.outcome is not None:
        outcome = bench.outcome
        console.print(f"tzwc: {escape(outcome.level)}; graphs {outcome.graphs}; assumptions {outcome.assumptions:,}")
        for remark in outcome.remarks:
            console.print(f"  {escape(remark)}")
        console.print()
    console.print("inference, contenders in turns")
    console.print(_contenders(bench))
    for cell in bench.cells:
        console.print(_verdict(cell))
        for contender in cell.contenders:
            if contender.error:
                console.print(f"batch {cell.batch}, {contender.name}: {escape(contender.error)}")


def _breaks(bench: CaptureBench) -> Table:
    table = Table()
    table.add_column("torch.compile")
    table.add_column("first forward", justify="right")
    table.add_column("afterwards", justify="right")
    after = bench.started.to_dict()
    for name, value in bench.fresh.to_dict().items():
        table.add_row(name, f"{value:,}", f"{after[name]:,}")
    return table


def _contenders(bench: CaptureBench) -> Table:
    table = Table()
    table.add_column("batch", justify="right")
    table.add_column("")
    for heading in ("median", "middle half", "first call", "off eager", "left on modules, off"):
        table.add_column(heading, justify="right")
    for cell in bench.cells:
        for contender in cell.contenders:
            table.add_row(str(cell.batch), contender.name, *_figures(contender))
        table.add_section()
    return table


def _figures(contender: Contender) -> list[str]:
    timing, first = contender.timing, f"{contender.first_call:.1f} s"
    if timing is None:
        return ["failed", "", first, "", ""]
    low, high = timing.quartiles
    return [
        f"{timing.median * 1e3:.2f} ms",
        f"{low * 1e3:.2f}–{high * 1e3:.2f} ms",
        first,
        _far(contender.deviation),
        _far(contender.left_deviation),
    ]


def _verdict(cell: Cell) -> str:
    if cell.gains is None or cell.peer is None:
        return f"batch {cell.batch}: nothing to compare tzwc with"
    quotient, within = cell.gains
    return f"batch {cell.batch}: {cell.peer.name} ÷ tzwc {quotient:.2f}× of medians, {within:.2f}× within rounds"


def _far(deviation: float) -> str:
    return f"{deviation:.1e}" if math.isfinite(deviation) else "[bold red]wrong[/]"
