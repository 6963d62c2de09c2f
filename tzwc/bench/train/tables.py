"""The tables that ``tzwc bench train`` prints for people."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tzwc.bench.devices import name_of
from tzwc.bench.train.run import Contender, Request, allocator
from tzwc.util.timing import ratio

__all__ = ["show_facts", "show_workload"]


def show_facts(request: Request, console: Console) -> None:
    """Print what all figures hold for."""
    facts = [f"backend {request.backend}", f"{torch.get_num_threads()} thread(s)", name_of(request.device), "batch 64"]
    facts += ["float32", f"{request.rounds} steps", *(f"{k}={v}" for k, v in allocator().items())]
    console.print(", ".join(facts))
    console.print(
        "first step: what the compilers' caches hold already is not compiled again\n"
        "losses part as float32 rounds; in float64 they are equal to 1e-8 (tests/training/test_same_losses.py)"
    )


def show_workload(name: str, contenders: Sequence[Contender], console: Console) -> None:
    """Print what the contenders took for a workload; times relative to the first of those that did not fail."""
    table = Table(title=name, title_justify="left")
    table.add_column("")
    for heading in ("first step", "step", "middle half", "epoch", "faster than the first", "largest gap of a loss"):
        table.add_column(heading, justify="right")
    best = next((c.timing for c in contenders if not c.error), None)
    for c in contenders:
        if c.error or best is None:
            table.add_row(c.timing.name, "failed")
            continue
        low, high = c.timing.quartiles
        table.add_row(
            c.timing.name,
            f"{c.first:.1f} s",
            f"{c.timing.median * 1e3:.0f} ms",
            f"{low * 1e3:.0f}–{high * 1e3:.0f} ms",
            f"{c.epoch:.1f} s",
            f"{ratio(best, c.timing):.2f}×",
            f"{c.gap:.1e}",
        )
    console.print(table)
    for c in contenders:
        if c.error:
            console.print(f"{c.timing.name}: {escape(c.error.strip().splitlines()[0])}")
