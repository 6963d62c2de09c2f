"""Commands about the speed of convolutions here: ``tzwc calibrate``, ``tzwc cache list`` and ``tzwc cache clear``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from tzwc.util.console import errors, output, reported

if TYPE_CHECKING:
    from tzwc.util.disk_cache import Entry, Store

__all__ = ["convolution", "register"]

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Trace = Annotated[bool, typer.Option("--traceback", help="Show the full traceback of an error.")]


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    app.command()(calibrate)
    cache = typer.Typer(no_args_is_help=True, help="What was measured on this machine and is remembered.")
    cache.command(name="list")(list_)
    cache.command()(clear)
    app.add_typer(cache, name="cache")


def calibrate(
    seconds: Annotated[float, typer.Option(min=0.1, max=3600, help="How long to measure.")] = 90.0,
    threads: Annotated[int | None, typer.Option(min=1, help="By default as many as torch takes.")] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    out: Annotated[Path | None, typer.Option(help="Also write the samples to this file, as a table for tzwc.")] = None,
    json_: Json = False,
    trace: Trace = False,
) -> None:
    """Measure what convolutions cost on this machine, once, so that the fastest can be chosen by prediction.

    Each number of threads has its own calibration. Ctrl-C ends it early and keeps what was measured, unless there is
    more from before.
    """
    with reported(trace):
        import torch

        from tzwc.autotune.calibration import write_table
        from tzwc.autotune.fingerprint import describe
        from tzwc.errors import InvalidArgumentError
        from tzwc.util.disk_cache import Store

        if device not in ("cpu", "cuda") or (device == "cuda" and not torch.cuda.is_available()):
            raise InvalidArgumentError(f"device={device!r}: expected cpu, or cuda where there is one")
        if threads is not None:
            torch.set_num_threads(threads)
        store = Store()
        found = _calibrate_with_a_bar(store, device, seconds)
        if out is not None:
            write_table(found.samples, out)
        if json_:
            typer.echo(json.dumps(found.to_dict() | {"folder": str(store.folder)}, indent=2))
        else:
            typer.echo(f"{describe(found.machine)}: {len(found.samples)} problems in {found.seconds:.0f} s")
            typer.echo(f"remembered in {store.folder}" if found.stored else "not remembered: there was more before")
        if not found.complete:
            raise typer.Exit(130)


def _calibrate_with_a_bar(store: Any, device: str, seconds: float) -> Any:
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from tzwc.autotune.calibration import calibrate as measure

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[count]} problems"))
    with Progress(*columns, TimeRemainingColumn(), console=errors(), transient=True) as bar:
        task = bar.add_task("calibrating", total=1.0, count=0)
        return measure(
            store,
            device=device,
            seconds=seconds,
            progress=lambda part, count: bar.update(task, completed=part, count=count),
        )


def convolution(
    cases: Annotated[int, typer.Option(min=1, help="Convolutions to draw.")] = 300,
    seed: Annotated[int, typer.Option(help="Of the drawing.")] = 1,
    rounds: Annotated[int, typer.Option(min=2, help="Of each measurement.")] = 15,
    compile_sample: Annotated[int, typer.Option(min=0, help="Drawn cases to compare with torch.compile.")] = 0,
    fixed: Annotated[bool, typer.Option("--fixed/--no-fixed", help="The four fixed points too.")] = True,
    memory: Annotated[int, typer.Option(min=0, help="Cases whose peak memory is measured.")] = 20,
    backend: Annotated[str, typer.Option(help="A backend of torch.compile, for both sides.")] = "inductor",
    threads: Annotated[int | None, typer.Option(min=1, help="By default as many as torch takes.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="A line of JSON for each measurement; run again, it goes on where it was.")
    ] = None,
    json_: Json = False,
    trace: Trace = False,
) -> None:
    """How far the chosen convolution is from the best candidate, and from torch.compile, on drawn convolutions.

    Lengths 16–65,536 in 1-D and 8–224 in 2-D, kernels from 1 to the length, 1–512 channels (dense, grouped, depthwise
    or a kernel for each sample), batch 1–64, all log-uniform; every second case with its gradients. Drawn again: more
    than 2²² elements of input and output or of the kernel, or 2²⁸ products by a transform. A candidate predicted to
    take over 0.2 s and 20 times the best is reported and not timed. Run tzwc calibrate first, with as many threads.
    """
    with reported(trace):
        import torch

        from tzwc.bench.convolution.run import Request, run
        from tzwc.bench.convolution.tables import show_convolution

        if threads is not None:
            torch.set_num_threads(threads)
        request = Request(cases, seed, rounds, compile_sample, fixed, memory, backend, out)
        console = errors()
        with console.status("measuring") as status:
            bench = run(request, status.update)
        if json_:
            typer.echo(json.dumps(bench.to_dict(), indent=2))
        else:
            show_convolution(bench, output())


_KINDS = {"doubt": "doubtful measurement"}
"""Kinds whose name alone says too little."""


def list_(json_: Json = False, trace: Trace = False) -> None:
    """What is remembered, what each file is about, how large it is and when it was written."""
    with reported(trace):
        from rich.markup import escape
        from rich.table import Table

        from tzwc.util.disk_cache import Store

        store = Store()
        found = store.entries()
        if json_:
            total = sum(entry.bytes for entry in found)
            listed = [entry.to_dict() for entry in found]
            typer.echo(json.dumps({"folder": str(store.folder), "bytes": total, "entries": listed}, indent=2))
            return
        table = Table(box=None, pad_edge=False)
        for heading in ("what", "about", "written"):
            table.add_column(heading)
        table.add_column("bytes", justify="right")
        for entry in found:
            facts = entry.to_dict()
            about = "; ".join(filter(None, (_about(entry.key), _why_doubtful(store, entry))))
            table.add_row(_KINDS.get(entry.kind, entry.kind), escape(about), str(facts["written"]), f"{entry.bytes:,}")
        if found:
            output().print(table)
        typer.echo(f"{_files(found)} in {store.folder}")


def clear(
    doubtful: Annotated[bool, typer.Option("--doubtful", help="Only what is doubtful.")] = False,
    json_: Json = False,
    trace: Trace = False,
) -> None:
    """Forget everything that was measured, or what is doubtful; says what it removed. Other files stay."""
    with reported(trace):
        from tzwc.util.disk_cache import Store

        store = Store()
        removed = store.clear("doubt" if doubtful else None)
        if json_:
            typer.echo(json.dumps({"folder": str(store.folder), "removed": [e.to_dict() for e in removed]}, indent=2))
        else:
            typer.echo(f"removed {_files(removed)} from {store.folder}")


def _files(entries: list[Any]) -> str:
    from tzwc.util.disk_cache import Kind

    kinds = {kind: sum(entry.kind == kind for entry in entries) for kind in get_args(Kind)}
    names = {kind: _KINDS.get(kind, kind) for kind in kinds}
    *parts, last = [f"{count} {names[kind]}{'' if count == 1 else 's'}" for kind, count in kinds.items()]
    return f"{', '.join(parts)} and {last} ({sum(entry.bytes for entry in entries):,} bytes)"


def _why_doubtful(store: Store, entry: Entry) -> str:
    """Why a measurement is no fact; empty for one that is. The file may come from anywhere."""
    if entry.kind != "doubt" or entry.key is None:
        return ""
    found = store.get("doubt", entry.key)
    return str(found.get("why", ""))[:200] if isinstance(found, dict) else ""


def _about(key: dict[str, Any] | None) -> str:
    """A line about an entry; its key may come from anywhere."""
    if key is None:
        return "cannot be read"
    problem, machine = key.get("problem"), key.get("machine", key)
    where = f"{machine.get('threads', machine.get('name', ''))} threads" if isinstance(machine, dict) else ""
    if isinstance(product := key.get("product"), list):
        return f"{' · '.join('×'.join(map(str, sizes)) for sizes in _sizes(product))}, {where}"
    if not isinstance(problem, dict):
        return f"{machine.get('cpu', machine.get('name', ''))}, {where}" if isinstance(machine, dict) else ""
    sizes = [f"{name} {problem[name]}" for name in ("batch", "in_channels", "lengths", "kernel") if name in problem]
    return ", ".join([str(problem.get("direction", "forward")), *sizes, where])


def _sizes(product: list[Any]) -> list[list[Any]]:
    """The shapes in the key of a product, as far as it has any."""
    operands = [operand[0] for operand in product if isinstance(operand, list) and operand]
    return [shape for shape in operands if isinstance(shape, list)]
