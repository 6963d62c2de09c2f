"""What ``tzwc bench model`` prints for people."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tzwc.bench.model.cells import Cell, Contender

__all__ = ["show_cell"]


def show_cell(cell: Cell, console: Console) -> None:
    """Print one cell: a table, what failed in it, and what its columns mean."""
    yard, peer = cell.yard, cell.peer
    console.print(f"\n[bold]{escape(str(cell.plan))}[/]")
    if yard.speed is not None:
        console.print(
            f"matrix products: {yard.speed / 1e9:.0f} GFLOP/s; the model: {yard.flops / 1e9:.3g} GFLOP a call, "
            f"{yard.growing / 1e9:.3g} of them growing with the batch"
        )
    console.print(_table(cell))
    for contender in cell.contenders:
        if contender.error:
            console.print(f"{contender.name}: {escape(contender.error)}")
        if contender.note:
            console.print(f"{contender.name}: {escape(contender.note)}")
    if yard.error:
        console.print(f"nothing to compare with: {escape(yard.error)}")
    if peer is not None:
        for contender in cell.contenders:
            if contender.ours:
                ratios = (f"{name} {value:.2f}" for name, value in cell.ratios(contender).items())
                console.print(f"{contender.name}: {', '.join(ratios)}")
        console.print(f"peer: the best one, {peer.name}; memory: of the first call, and of those after it")


def _table(cell: Cell) -> Table:
    table = Table()
    table.add_column("", no_wrap=True)
    for heading in ("median", "middle half", "peer ÷ it", "of products", "first call", "memory", "of allowed error"):
        table.add_column(heading, justify="right")
    for contender in cell.contenders:
        table.add_row(contender.name, *_figures(cell, contender))
    return table


def _figures(cell: Cell, contender: Contender) -> list[str]:
    first = [
        "" if contender.first_call is None else f"{contender.first_call:.1f} s",
        _memory(contender),
        _error(cell, contender),
    ]
    timing, gains, share = contender.timing, cell.gains(contender), cell.share(contender)
    if timing is None:
        return ["failed" if contender.fit else "no part", "", "", "", *first]
    low, high = timing.quartiles
    return [
        f"{timing.median * 1e3:.2f} ms",
        f"{low * 1e3:.2f}–{high * 1e3:.2f}",
        "" if gains is None else f"{gains[0]:.2f}×",
        "" if share is None else f"{share:.0%}",
        *first,
    ]


def _memory(contender: Contender) -> str:
    """Of the first call, and of those after it."""
    sizes = [f"{size / 1e6:.0f}" for size in (contender.first_memory, contender.memory) if size is not None]
    return f"{', '.join(sizes)} MB" if sizes else ""


def _error(cell: Cell, contender: Contender) -> str:
    agrees = cell.agrees(contender)
    if agrees is None:
        return ""
    worst = max(contender.distances[name] / allowed for name, allowed in cell.yard.allowed.items())
    return f"{worst:.0%}" if agrees else f"[bold red]{worst:.0%}[/]"
