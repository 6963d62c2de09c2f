"""Commands that train and use what was trained: ``tzwc train``, ``tzwc evaluate`` and ``tzwc predict``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from tzwc.util.console import error_line, output, reported

if TYPE_CHECKING:
    from torch import nn

    from tzwc.models.spec import Resample
    from tzwc.training import Recipe

__all__ = ["register"]

Backend = Annotated[str, typer.Option(help="A backend of torch.compile that lowers the graphs.")]
Runner = Annotated[str, typer.Option("--with", metavar="tzwc|compile|eager", help="What runs the model.")]
Data = Annotated[Path | None, typer.Option("--data", metavar="DIR", help="The folder with the data set's files.")]
Partial = Annotated[bool, typer.Option("--partial", help="Accept files that hold only some of the samples.")]
Threads = Annotated[int | None, typer.Option(min=1, help="By default as many as torch takes.")]
Saved = Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="What 'tzwc train' wrote, or its folder.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Trace = Annotated[bool, typer.Option("--traceback", help="Show the full traceback of an error.")]


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    for command in (train, evaluate, predict):
        app.command()(command)


def train(
    preset: Annotated[str, typer.Argument(help="digits, sdigits, pdigits, mnist1d, mnist, smnist, cifar10, …")],
    data: Data = None,
    partial: Partial = False,
    out: Annotated[Path | None, typer.Option(help="Of checkpoint and logs; by default out/train/PRESET.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint in --out.")] = False,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training samples.")] = None,
    batch: Annotated[int | None, typer.Option(help="Samples a step, over all processes.")] = None,
    lr: Annotated[float | None, typer.Option(help="Learning rate after the warm-up.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of parameters, order, augmentation and dropout.")] = None,
    precision: Annotated[str | None, typer.Option(help="float32, bfloat16 (autocast) or float64.")] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=JSON", help="Any field of the recipe: ema=0.999; repeatable."),
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="End after so many steps.")] = None,
    runner: Runner = "tzwc",
    backend: Backend = "inductor",
    threads: Threads = None,
    json_: Json = False,
    trace: Trace = False,
) -> None:
    """Train a model, with its checkpoint and a log in a folder; Ctrl-C stops behind a step and loses nothing.

    Exit code 130 after Ctrl-C and 143 after SIGTERM: --resume goes on, bit for bit. Several processes:
    torchrun --no-python --nproc-per-node 2 tzwc train digits
    """
    with reported(trace):
        from tzwc.training import Interrupted, distributed
        from tzwc.util.paths import is_file

        given = {"epochs": epochs, "batch": batch, "lr": lr, "seed": seed, "precision": precision}
        fields = {name: value for name, value in given.items() if value is not None} | _fields(changes or [])
        folder = out or Path("out/train") / preset
        last = folder / "last.safetensors"
        _threads(threads)
        with distributed.together():
            trainer = _trainer(preset, fields, data, partial, folder, resume, runner, backend)
            try:
                history = trainer.fit(steps=steps)
            except Interrupted as stopped:
                if distributed.rank() == 0:
                    error_line(f"{stopped}; --resume goes on from {last}")
                raise typer.Exit(128 + stopped.number) from None
            except KeyboardInterrupt:
                if distributed.rank() == 0:
                    where = f"stopped at once, in step {trainer.step + 1} of {trainer.steps}"
                    kept = f"--resume goes on from {last}, as it was" if is_file(last) else "nothing was kept yet"
                    error_line(f"{where}; {kept}")
                raise typer.Exit(130) from None
            if distributed.rank() != 0:
                return
            if json_:
                typer.echo(json.dumps({"checkpoint": str(last), "history": history}, indent=2))
            else:
                output().print(f"step {trainer.step} of {trainer.steps}; checkpoint and log are in {folder}/")


def evaluate(
    checkpoint: Saved,
    data: Data = None,
    partial: Partial = False,
    resolution: Annotated[
        str | None, typer.Option(metavar="SIZES", help="Another grid, such as 16x16: model and data are resampled.")
    ] = None,
    kernels: Annotated[
        str | None,
        typer.Option(
            help="With --resolution: evaluate the slow networks there (default), or interpolate their kernels."
        ),
    ] = None,
    runner: Runner = "eager",
    backend: Backend = "inductor",
    threads: Threads = None,
    json_: Json = False,
    trace: Trace = False,
) -> None:
    """Accuracy of a checkpoint on the held-out samples of its data set, with averaged parameters if there are any."""
    with reported(trace):
        from dataclasses import asdict, replace

        from tzwc.data import load
        from tzwc.errors import InvalidArgumentError
        from tzwc.targets import InputSpec
        from tzwc.training import Checkpoint
        from tzwc.training import evaluate as measure

        if kernels is not None and resolution is None:
            raise InvalidArgumentError(f"--kernels {kernels}: give --resolution as well, such as 16x16")
        _threads(threads)
        saved = Checkpoint.load(checkpoint)
        model = saved.model()
        held_out = replace(load(saved.data, data, partial=partial), normalise=saved.normalisation)
        if resolution is not None:
            grid = InputSpec.parse(resolution)
            if grid.dtype is not None:
                raise InvalidArgumentError(f"--resolution {resolution}: expected sizes alone, such as 16x16")
            sizes = grid.shape
            held_out = held_out.resized(sizes)
            chosen = cast("Resample", kernels or "evaluate")  # at_resolution says so if it is neither
            model = model.at_resolution(sizes, kernels=chosen)
        found = measure(_run_by(runner, backend, model), held_out.test, saved.normalisation, saved.recipe.batch)
        if json_:
            typer.echo(json.dumps(asdict(found), indent=2))
        else:
            output().print(f"{saved.data}: {found.accuracy:.2%} of {found.samples:,} right, loss {found.loss:.4f}")


def predict(
    checkpoint: Saved,
    files: Annotated[list[Path], typer.Argument(metavar="FILE…", help="Images, or .npy arrays.")],
    json_: Json = False,
    trace: Trace = False,
) -> None:
    """The class of every file, each in the company of training samples that the checkpoint holds."""
    with reported(trace):
        from tzwc.training import Checkpoint
        from tzwc.training.prediction import predict as classify

        found = classify(Checkpoint.load(checkpoint), files)
        if json_:
            entries = [{"file": str(p.path), "label": p.label, "probability": p.probability} for p in found]
            typer.echo(json.dumps(entries, indent=2))
        else:
            for p in found:
                typer.echo(f"{p.path}: {p.label} ({p.probability:.1%})")


def _trainer(
    preset: str,
    fields: dict[str, Any],
    data: Path | None,
    partial: bool,
    folder: Path,
    resume: bool,
    runner: str,
    backend: str,
) -> Any:
    import torch

    from tzwc.data import load
    from tzwc.errors import InvalidArgumentError
    from tzwc.models import Terminator
    from tzwc.training import Checkpoint, Recipe, Trainer, task
    from tzwc.training.progress import Progress
    from tzwc.util.paths import is_file

    chosen = task(preset)
    last = folder / "last.safetensors"
    saved = Checkpoint.load(last) if resume else None
    if saved is None and is_file(last):
        raise InvalidArgumentError(f"--out {folder}: it holds a checkpoint; give --resume to go on, or another folder")
    base = (chosen.recipe if saved is None else saved.recipe).to_dict()
    if saved is None and "warm_up" not in fields:
        base["warm_up"] = _warm_up(chosen.recipe, fields.get("epochs"))
    recipe = Recipe.from_dict(base | fields)
    torch.manual_seed(recipe.seed)
    model = Terminator(chosen.spec).to(recipe.dtype)
    if torch.cuda.is_available():
        model = model.cuda()
    compiled = _run_by(runner, backend, model)
    samples = load(chosen.data, data, partial=partial)
    trainer = Trainer(model, samples, recipe, folder=folder, compiled=compiled, progress=Progress.shown(preset))
    if saved is not None:
        trainer.resume(saved)
    return trainer


def _warm_up(recipe: Recipe, epochs: object) -> float:
    """Its epochs of warm-up; the same part of fewer ``epochs`` where it would fill them."""
    if isinstance(epochs, int) and epochs <= recipe.warm_up:
        return recipe.warm_up * epochs / recipe.epochs
    return recipe.warm_up


def _run_by(runner: str, backend: str, model: nn.Module) -> Any:
    import torch

    from tzwc import api
    from tzwc.errors import InvalidArgumentError

    if runner == "eager":
        return model
    if runner == "compile":
        return torch.compile(model, backend=backend)
    if runner == "tzwc":
        return api.compile(model, backend=backend)
    raise InvalidArgumentError(f"--with {runner!r}: choose one of tzwc, compile, eager")


def _fields(changes: list[str]) -> dict[str, Any]:
    """``FIELD=JSON`` pairs; what is no JSON is a string."""
    from tzwc.errors import InvalidArgumentError

    found: dict[str, Any] = {}
    for change in changes:
        name, equals, text = change.partition("=")
        if not equals:
            raise InvalidArgumentError(f"--set {change!r}: expected FIELD=VALUE, such as ema=0.999")
        try:
            found[name.strip()] = json.loads(text)
        except json.JSONDecodeError:
            found[name.strip()] = text
    return found


def _threads(threads: int | None) -> None:
    if threads is not None:
        import torch

        torch.set_num_threads(threads)
