"""The command line; commands that look into a model are in :mod:`tzwc.cli.inspect`, measurements in
:mod:`tzwc.cli.bench`.

Exit codes: 0 for success, 1 when the work failed, 2 when the command was not understood. torch is imported by the
commands that need it, so that ``--help`` answers at once.
"""

from __future__ import annotations

import json
import os
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from tzwc.cli import bench, inspect, lower
from tzwc.cli import train as training_commands
from tzwc.cli import tune as tuning_commands
from tzwc.util.console import error_line, output, reported

__all__ = ["app", "main"]

app = typer.Typer(
    name="tzwc",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 success, 1 the work failed, 2 the command was not understood.",
)
inspect.register(app)
bench.register(app)
training_commands.register(app)
lower.register(app)
tuning_commands.register(app)

Backend = Annotated[str, typer.Option(help="A backend of torch.compile that lowers the rewritten graph.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Trace = Annotated[bool, typer.Option("--traceback", help="Show the full traceback of an error.")]


def main() -> None:
    """Run the command line; the console script."""
    try:
        app()
    except BrokenPipeError:
        _closed_pipe()
    finally:
        try:
            sys.stdout.flush()
        except BrokenPipeError:
            _closed_pipe()


def _closed_pipe() -> None:
    """The reader has seen enough (``tzwc … | head``): say nothing, also not when Python flushes at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(1)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"tzwc {version('tzwc')} (torch {version('torch')})")
        raise typer.Exit


@app.callback()
def _common(
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Compile models whose weights are written by other networks."""


@app.command()
def passes(json_: Json = False) -> None:
    """List the passes, in the order in which they run."""
    from tzwc.passes import DEFAULT_PASSES
    from tzwc.passes.registry import PluginError, announced, load

    extra: list[tuple[str, str]] = []
    try:
        points = announced()
    except PluginError as error:
        points = {}
        error_line(str(error))
    for name, point in points.items():
        try:
            extra.append((name, load(point).summary))
        except PluginError as error:  # one broken package must not hide the others
            error_line(str(error))
    if json_:
        listed = [{"name": p.name, "summary": p.summary, "default": True} for p in DEFAULT_PASSES]
        listed += [{"name": name, "summary": summary, "default": False} for name, summary in extra]
        typer.echo(json.dumps(listed, indent=2))
        return
    table = Table(box=None, pad_edge=False)
    table.add_column("#", justify="right")
    table.add_column("pass", style="bold", no_wrap=True)
    table.add_column("what it does")
    for position, step in enumerate(DEFAULT_PASSES, 1):
        table.add_row(str(position), step.name, escape(step.summary))
    for name, summary in extra:
        table.add_row("", name, f"{escape(summary)} [dim](installed; run it with --passes)[/dim]")
    output().print(table)


@app.command(name="compile")
def compile_(
    target: Annotated[str, typer.Argument(metavar="PRESET_OR_MODULE:FACTORY", help="What to compile.")],
    inputs: Annotated[
        list[str] | None,
        typer.Option("--input", "-i", metavar="SIZES[:DTYPE]", help="One input, such as 16x3x32x32; repeatable."),
    ] = None,
    dump: Annotated[Path | None, typer.Option(help="Write the graph after every pass to this folder.")] = None,
    backend: Backend = "inductor",
    dtype: Annotated[str, typer.Option(help="Element type of parameters and inputs.")] = "float32",
    train: Annotated[bool, typer.Option("--train", help="Compile for training: forward and backward.")] = False,
    chosen: Annotated[str | None, typer.Option("--passes", metavar="A,B,…", help="Only these passes.")] = None,
    convolution: Annotated[str, typer.Option(help="auto, or one algorithm wherever it is legal.")] = "auto",
    tune: Annotated[
        str | None, typer.Option(help="How auto chooses: measure (default), model (predict only), off (native).")
    ] = None,
    exact: Annotated[bool, typer.Option("--exact", help="No algorithm that mixes a channel, as an FFT does.")] = False,
    json_: Json = False,
    trace: Trace = False,
) -> None:
    """Compile a model, run it once and print the report.

    The model is a preset (cifar10, smnist, digits…) or one of your own, as module:factory: the module is looked for in
    the working directory too. Presets know their sizes; every other model needs one --input for each argument.
    """
    with reported(trace):
        from tzwc.cli.compile import Request, run

        names = None if chosen is None else [name.strip() for name in chosen.split(",") if name.strip()]
        options: dict[str, Any] = {"backend": backend, "passes": names, "convolution": convolution, "exact": exact}
        options |= {} if tune is None else {"tune": tune}
        outcome = run(Request(target, tuple(inputs or ()), dtype, train, dump, options))
        if json_:
            typer.echo(json.dumps(outcome.to_dict(), indent=2))
        else:
            outcome.show(output())
        if not outcome.compiled:
            error_line("the model could not be captured and runs as it was; the remarks say why")
            raise typer.Exit(1)


@app.command()
def demo(
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the training images.")] = 10,
    seconds: Annotated[float | None, typer.Option(min=1, help="Train for this long at most.")] = None,
    backend: Backend = "inductor",
    threads: Annotated[int, typer.Option(min=1, help="Threads; these operators are small.")] = 1,
    out: Annotated[Path, typer.Option(help="Folder for the dumps.")] = Path("out/demo"),
    quick: Annotated[bool, typer.Option("--quick", help="A few steps and no C++ compiler: does it run?")] = False,
    trace: Trace = False,
) -> None:
    """Train the digits model, compile it, check it against eager and measure it.

    Needs no network: the 1,797 images of handwritten digits come with scikit-learn. Exits with 1 when the compiled
    model does not give the results of the eager one.
    """
    with reported(trace):
        from tzwc.cli.demo import Settings, run

        settings = Settings(epochs, seconds, backend, threads, out)
        if not run(settings.quickly() if quick else settings, output()):
            raise typer.Exit(1)


@app.command()
def view(
    target: Annotated[Path, typer.Argument(metavar="FOLDER_OR_PAGE", help="What --dump wrote, or its report.html.")],
    serve: Annotated[
        bool, typer.Option("--serve", help="Serve it on this machine (127.0.0.1) until interrupted.")
    ] = False,
    port: Annotated[int, typer.Option(min=0, max=65535, help="With --serve; 0 takes any that is free.")] = 0,
    open_: Annotated[bool, typer.Option("--open/--no-open", help="Open it in a browser.")] = True,
    trace: Trace = False,
) -> None:
    """Open the page of a dump: every pass before and after, with origins, costs, history and remarks.

    The page needs neither a network nor a server; --serve is for a browser that may not read files.
    """
    with reported(trace):
        from tzwc.inspection.viewer.serve import view as show

        show(target, serve_it=serve, port=port, open_it=open_, say=typer.echo)
