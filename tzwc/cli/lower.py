"""``tzwc lower``: the code that a GPU would run for a model, made without one; ``--compare`` says what tzwc saves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tzwc.util.console import output, reported, working

if TYPE_CHECKING:
    import torch
    from torch import nn

    from tzwc.cross_compile import Lowered

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command()(lower)


def lower(
    model: Annotated[str, typer.Argument(metavar="PRESET_OR_MODULE:FACTORY", help="What to lower.")],
    inputs: Annotated[
        list[str] | None,
        typer.Option("--input", "-i", metavar="SIZES[:DTYPE]", help="One input, such as 16x3x32x32; repeatable."),
    ] = None,
    target: Annotated[str, typer.Option(help="cuda:80, cuda:90 or hip:gfx942.")] = "cuda:90",
    dtype: Annotated[str, typer.Option(help="Element type of parameters and inputs.")] = "float32",
    train: Annotated[bool, typer.Option("--train", help="Lower for training: forward and backward.")] = False,
    chosen: Annotated[str | None, typer.Option("--passes", metavar="A,B,…", help="Only these passes.")] = None,
    convolution: Annotated[str, typer.Option(help="auto, or one algorithm wherever it is legal.")] = "auto",
    plain: Annotated[bool, typer.Option("--plain", help="What plain torch.compile would lower.")] = False,
    binaries: Annotated[bool, typer.Option("--binaries/--no-binaries", help="Compile the kernels.")] = True,
    out: Annotated[Path | None, typer.Option(help="Write code, assembly and binaries to this folder.")] = None,
    check: Annotated[bool, typer.Option("--check", help="Run it in Triton's interpreter, against eager.")] = False,
    compare: Annotated[
        bool, typer.Option("--compare", help="Launches, bytes and modelled time against plain torch.compile.")
    ] = False,
    tf32: Annotated[bool, typer.Option("--tf32", help="With --compare: float32 products on tensor cores.")] = False,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    trace: Annotated[bool, typer.Option("--traceback", help="Show the full traceback of an error.")] = False,
) -> None:
    r"""Lower a model for a GPU that need not be there, and say what would be launched.

    Needs Triton (pip install 'tzwc\[triton]'), but neither a GPU nor CUDA. Every time shown is modelled, none measured.
    """
    with reported(trace):
        from tzwc.cross_compile import Process, Target
        from tzwc.cross_compile import lower as lower_model
        from tzwc.cross_compile.compare import Comparison
        from tzwc.cross_compile.tables import show_comparison, show_program
        from tzwc.errors import InvalidArgumentError
        from tzwc.util.paths import is_file

        gpu = Target.parse(target)
        if out is not None and is_file(out):
            raise InvalidArgumentError(f"--out {out} is a file: give a folder")
        if compare and (plain or check):
            raise InvalidArgumentError("--compare goes with neither --plain nor --check: it lowers both ways itself")
        if train and check:
            raise InvalidArgumentError("--check compares results of evaluation: leave out --train")
        made, tensors = _model(model, inputs, dtype, train)
        names = None if chosen is None else [name.strip() for name in chosen.split(",") if name.strip()]
        with working(f"lowering {type(made).__name__} for {gpu.device}"), Process("lower") as process:

            def lowered(plain: bool) -> Lowered:
                return lower_model(
                    made,
                    *tensors,
                    target=target,
                    train=train,
                    passes=names,
                    plain=plain,
                    binaries=binaries and not compare,
                    process=process,
                    convolution=convolution,
                )

            program = lowered(plain)
            comparison = Comparison.of(lowered(True), program, tf32=tf32) if compare else None
        difference = _difference(program, made, tensors) if check else None
        if out is not None:
            program.write(out)
        if json_:
            data = comparison.to_dict() if comparison is not None else program.to_dict()
            typer.echo(json.dumps(data if difference is None else {**data, "difference": difference}, indent=2))
            return
        if comparison is not None:
            show_comparison([comparison], output())
        else:
            show_program(program, output())
        if difference is not None:
            typer.echo(f"largest difference from eager, in the interpreter: {difference:.1e} of the largest value")
        if out is not None:
            typer.echo(f"code, kernels and this report: {out}/")


def _model(target: str, inputs: list[str] | None, dtype: str, train: bool) -> tuple[nn.Module, list[torch.Tensor]]:
    import torch

    from tzwc.errors import InvalidArgumentError
    from tzwc.targets import InputSpec, default_inputs, parse_dtype, resolve

    kind = parse_dtype(dtype)
    if not kind.is_floating_point:
        raise InvalidArgumentError(f"dtype {dtype!r}: parameters need a floating-point type")
    specs = [InputSpec.parse(text) for text in inputs or ()]
    torch.manual_seed(0)
    model = resolve(target).to(kind).train(train)
    generator = torch.Generator().manual_seed(0)
    return model, [spec.make(kind, generator) for spec in specs or default_inputs(model)]


def _difference(program: Lowered, model: nn.Module, tensors: list[torch.Tensor]) -> float:
    import torch

    from tzwc.cli.compile import largest_difference

    with torch.no_grad():
        expected = model(*tensors)
    with working("running the kernels in the interpreter"):
        return largest_difference(program.run(*tensors)[0], expected)
