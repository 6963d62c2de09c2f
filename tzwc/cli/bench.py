"""Commands that measure: ``tzwc bench cache``, ``capture``, ``model``, ``convolution`` and ``train``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from tzwc.cli.tune import convolution
from tzwc.util.console import output, reported

__all__ = ["register"]

Backend = Annotated[str, typer.Option(help="A backend of torch.compile that lowers the rewritten graph.")]
Rounds = Annotated[int, typer.Option(min=2, help="Of each measurement.")]
Threads = Annotated[int | None, typer.Option(min=1, help="By default as many as torch takes.")]
Device = Annotated[str, typer.Option(help="cpu, or cuda, timed by events.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Trace = Annotated[bool, typer.Option("--traceback", help="Show the full traceback of an error.")]


def register(app: typer.Typer) -> None:
    """Add ``bench`` and its commands to ``app``."""
    bench = typer.Typer(no_args_is_help=True, help="Measure, contenders in turns, on this machine.")
    for command in (cache, capture, model, convolution, train):
        bench.command()(command)
    app.add_typer(bench, name="bench")


def cache(
    presets: Annotated[str, typer.Option(metavar="A,B,…", help="Declared models.")] = "cifar10,smnist",
    batches: Annotated[str, typer.Option(metavar="N,M,…", help="First sizes of the input.")] = "1,16,64",
    backend: Backend = "inductor",
    contenders: Annotated[
        str | None, typer.Option(metavar="A,B,…", help="Of eager, tzwc, compile, freezing, const_fold; by default all.")
    ] = None,
    device: Device = "cpu",
    rounds: Rounds = 25,
    threads: Threads = None,
    json_: Json = False,
    trace: Trace = False,
) -> None:
    """What keeping values costs and gains, and who still gives them after the parameters have changed.

    With Inductor, every contender compiles for minutes; --backend eager gives a quick look at the rest.
    """
    with reported(trace):
        from tzwc.bench.cache.cache import Request, run
        from tzwc.bench.cache.tables import show_cache

        names = None if contenders is None else _listed(contenders)
        request = Request(_listed(presets), _sizes(batches), backend, names, rounds, device=device)
        _measure(lambda: run(request), lambda result: show_cache(result, output()), threads, json_)


def capture(
    preset: Annotated[str, typer.Option(help="The declared model whose lazily initialised twin runs.")] = "cifar10",
    batches: Annotated[str, typer.Option(metavar="N,M,…", help="First sizes of the input, in this order.")] = "2,16",
    backend: Backend = "inductor",
    contenders: Annotated[
        str | None,
        typer.Option(
            metavar="A,B,…",
            help="Of eager, compile, compile_static, compile_contiguous, compile_limitless, tzwc; by default all but "
            "compile_limitless.",
        ),
    ] = None,
    device: Device = "cpu",
    rounds: Rounds = 25,
    threads: Threads = None,
    json_: Json = False,
    trace: Trace = False,
) -> None:
    """A model as people write them: where torch.compile breaks its graph, and what tzwc makes of it.

    The model initialises itself in its first forward, reads tensors back and leaves values on its modules. With
    Inductor, every contender compiles for minutes; --backend eager gives a quick look at the rest.
    """
    with reported(trace):
        from tzwc.bench.capture.capture import Request, run
        from tzwc.bench.capture.tables import show_capture

        names = None if contenders is None else _listed(contenders)
        request = Request(preset, _sizes(batches), backend, names, rounds, device=device)
        _measure(lambda: run(request), lambda result: show_capture(result, output()), threads, json_)


def model(
    presets: Annotated[
        str, typer.Option(metavar="A,B,…", help="Presets, long (16,384 points), or Terminators as module:factory.")
    ] = "cifar10,smnist,scifar10,long",
    batches: Annotated[
        str | None, typer.Option(metavar="N,M,…", help="First sizes of the input; by default those of each preset.")
    ] = None,
    modes: Annotated[str, typer.Option(metavar="A,B", help="Of inference, training.")] = "inference,training",
    backend: Backend = "inductor",
    contenders: Annotated[
        str | None,
        typer.Option(
            metavar="A,B,…",
            help="Of eager, compile, contiguous, reduce_overhead, max_autotune, freezing, freezing_max_autotune, "
            "tzwc, each also with its allocator tuned, as NAME+allocator; by default all but reduce_overhead and "
            "freezing_max_autotune.",
        ),
    ] = None,
    device: Device = "cpu",
    rounds: Rounds = 15,
    threads: Threads = None,
    limit: Annotated[float, typer.Option(min=0.1, help="Seconds after which a first call has failed.")] = 3600.0,
    share_caches: Annotated[
        bool, typer.Option("--share-caches", help="NAME+allocator finds what NAME has compiled: half the time.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Append all that is found out to this file, at once.")] = None,
    json_: Json = False,
    trace: Trace = False,
) -> None:
    """Inference and training steps with tzwc and with every peer, each in a fresh process, in turns.

    First calls begin with empty caches and are made one after the other. With Inductor, everything together takes
    hours; --backend eager gives a quick look at the rest.
    """
    with reported(trace):
        from tzwc.bench.model.run import Request, run
        from tzwc.bench.model.tables import show_cell

        request = Request(
            presets=_listed(presets),
            batches=None if batches is None else _sizes(batches),
            modes=_listed(modes),
            backend=backend,
            contenders=None if contenders is None else _listed(contenders),
            rounds=rounds,
            threads=threads,
            limit=limit,
            share_caches=share_caches,
            out=out,
            device=device,
        )
        if json_:
            typer.echo(json.dumps(run(request).to_dict(), indent=2))
            return
        output().print(", ".join(f"{name} {value}" for name, value in request.facts().items()))
        run(request, lambda cell: show_cell(cell, output()))


def train(
    tasks: Annotated[
        str, typer.Option(metavar="A,B,…", help="Of digits, sdigits, mnist1d, digits32, sdigits784.")
    ] = "digits,sdigits,sdigits784",
    backend: Backend = "inductor",
    contenders: Annotated[
        str | None,
        typer.Option(metavar="A,B,…", help="Of eager, compile, contiguous, max_autotune, tzwc; by default all."),
    ] = None,
    device: Device = "cpu",
    rounds: Annotated[int, typer.Option(min=2, help="Steps of each contender that are timed.")] = 15,
    threads: Threads = None,
    out: Annotated[
        Path | None, typer.Option(help="Write each task to this file when it is done; what it holds is not repeated.")
    ] = None,
    json_: Json = False,
    trace: Trace = False,
) -> None:
    """An epoch of training on offline data: eager, torch.compile and tzwc, step by step in turns.

    Every task is shown when it is done; after Ctrl-C, the same command with --out goes on with the next one. With
    Inductor, every contender compiles for minutes; --backend eager gives a quick look at the rest.
    """
    with reported(trace):
        import torch

        from tzwc.bench.train.run import Request, run
        from tzwc.bench.train.tables import show_facts, show_workload

        if threads is not None:
            torch.set_num_threads(threads)
        names = None if contenders is None else _listed(contenders)
        request = Request(_listed(tasks), names, backend, rounds, device, out)
        if json_:
            typer.echo(json.dumps(run(request).to_dict(), indent=2))
            return
        show_facts(request, output())
        run(request, lambda name, found: show_workload(name, found, output()))


def _measure(run: Callable[[], Any], show: Callable[[Any], None], threads: int | None, json_: bool) -> None:
    """Measure with so many threads, and print what came out."""
    import torch

    if threads is not None:
        torch.set_num_threads(threads)
    result = run()
    if json_:
        typer.echo(json.dumps(result.to_dict(), indent=2))
    else:
        show(result)


def _listed(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _sizes(text: str) -> tuple[int, ...]:
    from tzwc.errors import InvalidArgumentError

    try:
        return tuple(map(int, _listed(text)))
    except ValueError:
        raise InvalidArgumentError(f"batches {text!r}: expected numbers joined by commas, such as 1,16,64") from None
