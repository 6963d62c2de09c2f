"""The tables that ``tzwc bench convolution`` prints for people."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from tzwc.autotune.fingerprint import describe, fingerprint
from tzwc.bench.convolution.regret import ANCHORS, THRESHOLD
from tzwc.bench.convolution.run import ConvolutionBench, distribution, regret

__all__ = ["show_convolution"]

WORST = 8
"""Cases that are shown one by one."""

_RULES = {
    "measure": "tune='measure'",
    "model": "tune='model'",
    "again": "the chosen one, timed twice (noise)",
    "native": "always native",
    "fft": "always one FFT",
    "threshold": f"FFT above {THRESHOLD} taps",
    "operations": "by counting operations",
}


def show_convolution(bench: ConvolutionBench, console: Console) -> None:
    """Print what was measured."""
    console.print(describe(fingerprint()))
    console.print(f"seed {bench.request.seed}, {len(bench.cases)} cases, {bench.request.rounds} rounds\n")
    if bench.cases:
        console.print("regret: time of the chosen algorithm ÷ time of the best candidate")
        console.print(_regrets(bench))
        console.print("the worst of tune='measure'")
        console.print(_worst(bench))
    if bench.fixed or bench.compiled:
        console.print("against torch.compile of the plain convolution, both compiled")
        console.print(_compiled(bench))
    if bench.memory:
        console.print("peak memory of forward and backward, by torch's allocator, ÷ that of native")
        console.print(_memory(bench))
    for goal, met in bench.goals().items():
        console.print(f"{'met' if met else '[bold red]missed[/]'}: {goal}")


def _regrets(bench: ConvolutionBench) -> Table:
    table = Table()
    table.add_column("rule")
    for heading in ("p50", "p90", "p95", "max", "mean"):
        table.add_column(heading, justify="right")
    for rule in ("measure", "model", "again", *ANCHORS):
        found = distribution(bench.regrets(rule))
        table.add_row(_RULES[rule], *(f"{found[name]:.2f}" for name in ("p50", "p90", "p95", "max", "mean")))
    return table


def _worst(bench: ConvolutionBench) -> Table:
    table = Table()
    for heading in ("case", "problem", "direction", "chosen", "best", "regret"):
        table.add_column(heading, justify="right" if heading in ("case", "regret") else "left")
    for case in sorted(bench.cases, key=lambda case: -regret(case, "measure"))[:WORST]:
        for row in case["directions"]:
            seconds = row["seconds"]
            if row["measure"] != row["best"]:
                chosen, best = (f"{name} {seconds[name] * 1e3:.3g} ms" for name in (row["measure"], row["best"]))
                ratio = seconds[row["measure"]] / seconds[row["best"]]
                table.add_row(str(case["case"]), _text(case["problem"]), row["direction"], chosen, best, f"{ratio:.2f}")
    return table


def _compiled(bench: ConvolutionBench) -> Table:
    table = Table()
    for heading in ("", "chosen", "torch.compile", "ours", "×"):
        table.add_column(heading)
    for row in (*bench.fixed, *sorted(bench.compiled, key=lambda row: row["ratio"])):
        name = row.get("name") or f"case {row['case']}: {_text(row['problem'])}"
        times = [f"{row[side] * 1e3:.3g} ms" if row[side] else "same program" for side in ("compiled", "chosen")]
        table.add_row(name, ", ".join(dict.fromkeys(row["algorithms"])), *times, f"{row['ratio']:.2f}")
    return table


def _memory(bench: ConvolutionBench) -> Table:
    names = list(dict.fromkeys(name for row in bench.memory for name in row["peak bytes"]))
    table = Table()
    for heading in ("case", "native, MiB", *names):
        table.add_column(heading, justify="right")
    for row in bench.memory:
        peaks = row["peak bytes"]
        plain = max(peaks.get("native", 0), 1)
        cells = [f"{peaks[name] / plain:.1f}" if name in peaks else "" for name in names]
        table.add_row(str(row["case"]), f"{plain / 2**20:.1f}", *cells)
    return table


def _text(problem: dict[str, Any]) -> str:
    kind = "per sample" if problem.get("per_sample") else f"groups {problem['groups']}"
    sizes = ["×".join(map(str, problem[name])) for name in ("lengths", "kernel")]
    channels = f"{problem['in_channels']}→{problem['out_channels']}"
    return f"{problem['batch']}, {channels}, {kind}, {sizes[0]}, K {sizes[1]}"
