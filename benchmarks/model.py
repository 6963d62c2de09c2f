"""Inference and training steps of a whole model: eager, ``torch.compile`` (two ways) and ``tzwc.compile`` in turns.

    python benchmarks/model.py cifar10 --batch 16
    python benchmarks/model.py smnist --batch 8 --train --json

All contenders run in one process, in turns and in changing order, after every one of them has compiled and run once.
Times are medians over rounds; a gain is the median over rounds of the quotient within a round.
"""

from __future__ import annotations

import copy
import json
import platform
import time
from collections.abc import Callable
from typing import Annotated, Any

import torch
import typer
from rich.table import Table
from torch import nn

import tzwc
from tzwc.factory import InputSpec, default_inputs, resolve
from tzwc.terminal import output, working
from tzwc.timing import Timing, interleave, ratio


def main(
    model: Annotated[str, typer.Argument(metavar="PRESET_OR_MODULE:FACTORY")] = "cifar10",
    batch: Annotated[int, typer.Option(min=1, help="First size of the input.")] = 16,
    train: Annotated[bool, typer.Option("--train", help="A step: forward, backward, SGD update.")] = False,
    backend: Annotated[str, typer.Option(help="Of torch.compile and of tzwc.")] = "inductor",
    threads: Annotated[int | None, typer.Option(min=1, help="By default as many as torch takes.")] = None,
    rounds: Annotated[int, typer.Option(min=2)] = 25,
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """Measure one model at one batch size."""
    if threads is not None:
        torch.set_num_threads(threads)
    torch.manual_seed(0)
    original = resolve(model).train(train)
    (declared,) = default_inputs(original)
    x = InputSpec((batch, *declared.shape[1:])).make(torch.float32, torch.Generator().manual_seed(0))
    contenders: dict[str, Any] = {  # each with a model of its own: none meets what another one has left on it
        "eager": copy.deepcopy(original),
        "torch.compile": torch.compile(copy.deepcopy(original), backend=backend),
    }
    if backend == "inductor":  # the peer's best setting: its channels-last layout slows these models down
        options = {"layout_optimization": False}
        contenders["torch.compile, contiguous"] = torch.compile(copy.deepcopy(original), options=options)
    contenders["tzwc"] = tzwc.compile(copy.deepcopy(original), backend=backend)
    calls = {name: _step(module, x) if train else _inference(module, x) for name, module in contenders.items()}
    first = {name: _first_call(name, call) for name, call in calls.items()}
    with working("measuring, in turns"):
        timings = interleave(calls, rounds=rounds, longest=600.0)
    facts = {
        "model": model,
        "batch": batch,
        "mode": "train" if train else "inference",
        "backend": backend,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "cpu": f"{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}",
    }
    results = [_result(timing, timings, first) for timing in timings]
    if as_json:
        print(json.dumps({**facts, "results": results}, indent=2))
    else:
        _show(facts, results)


def _inference(module: Callable[[torch.Tensor], Any], x: torch.Tensor) -> Callable[[], Any]:
    def call() -> Any:
        with torch.no_grad():
            return module(x)

    return call


def _step(module: nn.Module, x: torch.Tensor) -> Callable[[], Any]:
    # A learning rate of zero changes versions, as every optimiser does, and keeps the values as they are.
    optimizer = torch.optim.SGD(module.parameters(), lr=0.0)

    def call() -> None:
        optimizer.zero_grad()
        module(x).square().mean().backward()
        optimizer.step()

    return call


def _first_call(name: str, call: Callable[[], Any]) -> float:
    with working(f"first call of {name}"):
        start = time.perf_counter()
        call()
        return time.perf_counter() - start


def _result(timing: Timing, timings: list[Timing], first: dict[str, float]) -> dict[str, Any]:
    gains = {f"gain over {peer.name}": round(ratio(peer, timing), 3) for peer in timings[:-1]}
    return {
        "contender": timing.name,
        "milliseconds": round(timing.median * 1e3, 3),
        "quartiles": [round(value * 1e3, 3) for value in timing.quartiles],
        "rounds": len(timing.seconds),
        "first call, seconds": round(first[timing.name], 1),
        **gains,
    }


def _show(facts: dict[str, Any], results: list[dict[str, Any]]) -> None:
    table = Table(title=", ".join(f"{name} {value}" for name, value in facts.items()), title_justify="left")
    for heading in results[0]:
        table.add_column(heading, justify="left" if heading == "contender" else "right")
    for result in results:
        table.add_row(*(str(value) for value in result.values()))
    output().print(table)


if __name__ == "__main__":
    typer.run(main)
