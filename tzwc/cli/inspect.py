"""Commands that look into a model: ``tzwc explain``, ``tzwc verify``, ``tzwc bisect`` and ``tzwc diff``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from tzwc.util.console import error_line, output, reported, working

__all__ = ["register"]

Target = Annotated[str, typer.Argument(metavar="PRESET_OR_MODULE:FACTORY", help="The model.")]
Inputs = Annotated[
    list[str] | None,
    typer.Option("--input", "-i", metavar="SIZES[:DTYPE]", help="One input, such as 16x3x32x32; repeatable."),
]
Dtype = Annotated[str, typer.Option(help="Element type of parameters and inputs.")]
Passes = Annotated[
    str | None, typer.Option("--passes", metavar="A,B,…", help="Only these passes; module:NAME for one of your own.")
]
Backend = Annotated[str, typer.Option(help="A backend of torch.compile that lowers the rewritten graph.")]
Tolerance = Annotated[
    float | None,
    typer.Option(help="Allowed distance from float64, of the largest value; by default four times that of eager."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Trace = Annotated[bool, typer.Option("--traceback", help="Show the full traceback of an error.")]


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    for command in (explain, verify, bisect, diff):
        app.command()(command)


def explain(
    target: Target,
    inputs: Inputs = None,
    pass_: Annotated[str | None, typer.Option("--pass", help="Only remarks of this pass.")] = None,
    kind: Annotated[str | None, typer.Option(help="applied, declined or note.")] = None,
    module: Annotated[str | None, typer.Option(help="Only remarks on this module: blocks.0, blocks.*.conv.")] = None,
    rule: Annotated[str | None, typer.Option(help="Only remarks of this rule.")] = None,
    every: Annotated[bool, typer.Option("--all", help="One line for each remark, none left out.")] = False,
    measure: Annotated[bool, typer.Option("--measure", help="Also time the operators of the final graph.")] = False,
    dtype: Dtype = "float32",
    train: Annotated[bool, typer.Option("--train", help="Explain training: with gradients.")] = False,
    chosen: Passes = None,
    backend: Backend = "eager",
    markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown.")] = False,
    json_: Json = False,
    trace: Trace = False,
) -> None:
    """Say what the passes do to a model, what they decline and why, and what would gain more."""
    with reported(trace):
        from typing import get_args

        from tzwc.cli.compile import Request, run
        from tzwc.errors import InvalidArgumentError
        from tzwc.ir.remarks import RemarkKind

        if kind is not None and kind not in get_args(RemarkKind):
            raise InvalidArgumentError(f"--kind {kind!r}: choose one of {', '.join(get_args(RemarkKind))}")
        options = {"backend": backend, "passes": _names(chosen)}
        outcome = run(Request(target, tuple(inputs or ()), dtype, train, None, options, measure))
        report = outcome.report.filter(pass_name=pass_, kind=kind, module=module, rule=rule)
        if json_:
            typer.echo(json.dumps(report.to_dict(), indent=2))
        elif markdown:
            typer.echo(report.to_markdown())
        elif every:
            for remark in report.all_remarks:
                typer.echo(str(remark))
        else:
            output().print(report)
        if not outcome.compiled:
            error_line("the model could not be captured and runs as it was; the remarks say why")
            raise typer.Exit(1)


def verify(
    target: Target,
    inputs: Inputs = None,
    tolerance: Tolerance = None,
    dtype: Dtype = "float32",
    chosen: Passes = None,
    backend: Backend = "eager",
    json_: Json = False,
    trace: Trace = False,
) -> None:
    """Compare the graph after every pass with the model in float64; exits with 1 when one is too far away."""
    with reported(trace):
        from tzwc.debug.verify import verify as verify_module

        model, arguments, _ = _model(target, inputs, dtype)
        with working(f"verifying {type(model).__name__}"):
            found = verify_module(model, arguments, passes=_names(chosen), tolerance=tolerance, backend=backend)
        _show(found, json_)
        if not found.ok:
            raise typer.Exit(1)


def bisect(
    target: Target,
    inputs: Inputs = None,
    tolerance: Tolerance = None,
    dtype: Dtype = "float32",
    chosen: Passes = None,
    backend: Backend = "eager",
    script: Annotated[Path | None, typer.Option(help="Write the script that shows it again here.")] = None,
    json_: Json = False,
    trace: Trace = False,
) -> None:
    """Find the first pass, and in it the smallest set of rewrites, that fails or moves the numbers too far.

    Prints a script that shows it again; exits with 1 when there is one.
    """
    with reported(trace):
        from tzwc.debug.bisect import bisect as bisect_module

        model, arguments, setup = _model(target, inputs, dtype)
        with working(f"bisecting {type(model).__name__}"):
            found = bisect_module(
                model, arguments, passes=_names(chosen), tolerance=tolerance, backend=backend, setup=setup
            )
        _show(found, json_)
        if script is not None and found.script:
            script.write_text(found.script, encoding="utf-8")
        elif found.script and not json_:
            typer.echo(f"\n# This script shows it again:\n\n{found.script}")
        if not found.ok:
            raise typer.Exit(1)


def diff(
    first: Annotated[Path, typer.Argument(help="A dump, or a stage of one (a .json file).")],
    second: Annotated[str, typer.Argument(help="Another dump or stage; or the name of a stage of the first.")],
    third: Annotated[str | None, typer.Argument(help="The name of another stage of the first.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="Nodes shown in each section.")] = 40,
    trace: Trace = False,
) -> None:
    """Show the nodes added, removed and replaced: between two stages of a dump, or between two dumps.

    tzwc diff out/digits capture hoist_static · tzwc diff out/before out/after · tzwc diff a.json b.json
    """
    with reported(trace):
        from tzwc.inspection import diff as compare
        from tzwc.inspection.load import pairs

        for title, before, after in pairs(first, second, third):
            typer.echo(
                f"{title}\n{compare(before, after, limit=limit)}" if title else compare(before, after, limit=limit)
            )


def _names(chosen: str | None) -> list[str] | None:
    return None if chosen is None else [name.strip() for name in chosen.split(",") if name.strip()]


def _show(found: Any, json_: bool) -> None:
    if json_:
        typer.echo(json.dumps(found.to_dict(), indent=2))
    else:
        output().print(found)


def _model(target: str, inputs: list[str] | None, dtype: str) -> tuple[Any, list[Any], str]:
    """The model, random inputs, and the Python text that makes the same ones."""
    import torch

    from tzwc.targets import InputSpec, default_inputs, parse_dtype, resolve

    specs = [InputSpec.parse(text) for text in inputs or ()]
    kind = parse_dtype(dtype)
    torch.manual_seed(0)
    model = resolve(target).to(kind).eval()
    generator = torch.Generator().manual_seed(0)
    specs = specs or default_inputs(model)
    arguments = [spec.make(kind, generator) for spec in specs]
    setup = f"""
import torch

from tzwc.targets import InputSpec, resolve

torch.manual_seed(0)
model = resolve({target!r}).to({kind}).eval()
generator = torch.Generator().manual_seed(0)
inputs = [InputSpec.parse(text).make({kind}, generator) for text in {list(map(str, specs))!r}]
"""
    return model, arguments, setup
