"""Tables of lowered programs and comparisons for terminals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tzwc.cross_compile.compare import Comparison
from tzwc.cross_compile.cost import Cost
from tzwc.cross_compile.program import Kernel, Launch, Program
from tzwc.lowering.gpu.target import LAUNCH_SECONDS
from tzwc.util.formatting import count, flops, seconds, size

__all__ = ["show_comparison", "show_program"]


def show_program(program: Program, console: Console) -> None:
    """Print every launch of every module, with what it computes and where that comes from."""
    console.print(
        f"{program.model} for {program.target.device} ({program.target.name}): "
        f"{count(len(program.kernels), 'kernel')}, {count(len(program.launches), 'step')}, "
        f"{count(len(program.kept), 'kept value')}"
    )
    kernels = {kernel.name: kernel for kernel in program.kernels}
    for module in program.modules:
        table = Table(title=module.name, title_justify="left", box=None, pad_edge=False)
        table.add_column("kernel or call", overflow="fold")
        for name in ("bytes", "FLOP", "registers", "shared"):
            table.add_column(name, justify="right")
        table.add_column("computes", overflow="fold")
        for launch in module.launches:
            table.add_row(*_row(launch, kernels))
        console.print(table)


def _row(launch: Launch, kernels: Mapping[str, Kernel]) -> tuple[str, ...]:
    kernel = kernels.get(launch.kernel)
    compiled = kernel is not None and kernel.registers is not None
    paths = dict.fromkeys(origin.module_path or "(root)" for origin in launch.origins)
    nodes = ", ".join(origin.node for origin in launch.origins)
    return (
        escape(launch.kernel),
        size(launch.bytes),
        flops(launch.flops) if launch.flops else "",
        str(kernel.registers) if kernel is not None and compiled else "",
        size(kernel.shared or 0) if kernel is not None and compiled else "",
        escape(f"{nodes} in {', '.join(paths)}" if nodes else ""),
    )


def show_comparison(comparisons: Sequence[Comparison], console: Console, labels: Sequence[str] = ()) -> None:
    """Print launches, bytes and modelled times next to each other."""
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    table.add_column("program")
    for name in ("kernels", "launches", "bytes", "FLOP", "modelled time", "of it launches"):
        table.add_column(name, justify="right")
    for index, comparison in enumerate(comparisons):
        label = labels[index] if labels else comparison.model
        table.add_row(label, "torch.compile", *_cells(comparison.plain))
        table.add_row("", "tzwc", *_cells(comparison.tzwc))
        ratios = comparison.ratios
        table.add_row(
            *(
                "",
                "ratio",
                "",
                f"{ratios['launches']:.2f}",
                f"{ratios['bytes']:.2f}",
                "",
                f"{ratios['seconds']:.2f}",
                "",
            )
        )
    console.print(table)
    devices = ", ".join(dict.fromkeys(comparison.device for comparison in comparisons))
    console.print(
        f"Modelled for {devices}, {LAUNCH_SECONDS * 1e6:.0f} µs a launch; nothing here was measured on a GPU."
    )


def _cells(cost: Cost) -> tuple[str, ...]:
    return (
        str(cost.kernels),
        str(cost.launches),
        size(cost.bytes),
        flops(cost.flops),
        seconds(cost.seconds),
        seconds(cost.launch_seconds),
    )
