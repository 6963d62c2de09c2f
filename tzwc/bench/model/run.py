"""``tzwc bench model``: a model with everything that a user could pick, each in a process of its own, in turns."""

from __future__ import annotations

import math
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tzwc.bench.devices import check_device, name_of
from tzwc.bench.model.cells import Cell, Contender, Plan, Yard
from tzwc.bench.model.contenders import ALLOCATOR, TUNED, choose, environment, unfit
from tzwc.bench.model.journal import Journal
from tzwc.bench.model.process import Process
from tzwc.bench.model.racer import Racer
from tzwc.bench.model.targets import DEFAULT_PRESETS, MODES, PRECISIONS, batches_of, check_target
from tzwc.bench.model.worker import Task
from tzwc.errors import InvalidArgumentError
from tzwc.lowering.backend import check_backend
from tzwc.util.console import working

__all__ = ["ModelBench", "Request", "run"]

_COMMAND = (sys.executable, "-m", "tzwc.bench.model.worker")
_YARDSTICK = "matrix products"


@dataclass(frozen=True)
class Request:
    """What to measure.

    Attributes:
        presets: names of declared models, ``long``, or Terminators as ``module:factory``.
        batches: first sizes of the input; by default those that belong to the preset and the mode.
        modes: ``inference``, ``training`` or both.
        backend: of ``torch.compile`` and of tzwc.
        contenders: see :func:`~tzwc.bench.model.contenders.choose`.
        rounds: of each measurement.
        threads: of every process; by default as many as torch takes.
        limit: seconds after which a first call has failed, or any other answer.
        share_caches: a contender with a tuned allocator finds what its untuned twin has compiled, so that its first
            call says nothing about a cold one.
        seconds: no round begins after this long in one cell; two are always made.
        out: a file to which everything that is found out is appended at once, as lines of JSON.
        device: ``cpu``, or ``cuda``, where events in its stream tell the time.
        precision: ``float32`` or ``bfloat16``.
        budget: seconds of a whole cell, of which first calls get four fifths; who has none left has failed.

    Raises:
        InvalidArgumentError: on construction, for a value that cannot be used.
        DeviceError: on construction, where the device is missing.
    """

    presets: tuple[str, ...] = DEFAULT_PRESETS
    batches: tuple[int, ...] | None = None
    modes: tuple[str, ...] = MODES
    backend: str = "inductor"
    contenders: tuple[str, ...] | None = None
    rounds: int = 15
    threads: int | None = None
    limit: float = 3600.0
    share_caches: bool = False
    seconds: float = 1200.0
    out: Path | None = None
    device: str = "cpu"
    precision: str = "float32"
    budget: float = math.inf

    def __post_init__(self) -> None:
        if not self.presets:
            raise InvalidArgumentError(f"no presets: give names such as {','.join(DEFAULT_PRESETS)}")
        for target in self.presets:
            check_target(target)
        if self.batches is not None and (not self.batches or min(self.batches) < 1):
            raise InvalidArgumentError(f"batches={self.batches!r}: give sizes of at least 1, such as 1,16,64")
        for mode in self.modes:
            if mode not in MODES:
                raise InvalidArgumentError(f"mode {mode!r} is unknown: choose from {', '.join(MODES)}")
        if not self.modes:
            raise InvalidArgumentError(f"no modes: choose from {', '.join(MODES)}")
        if self.rounds < 2 or not self.limit > 0:
            raise InvalidArgumentError(f"rounds={self.rounds!r}, limit={self.limit!r}: at least 2, and more than 0")
        if self.precision not in PRECISIONS or not self.budget > 0:
            raise InvalidArgumentError(
                f"precision={self.precision!r}, budget={self.budget!r}: one of {', '.join(PRECISIONS)}, and more than 0"
            )
        check_backend(self.backend)
        check_device(self.device)
        choose(self.contenders, self.backend, self.device)

    @property
    def plans(self) -> tuple[Plan, ...]:
        """All cells, in order."""
        wanted = [(target, mode) for target in self.presets for mode in self.modes]
        return tuple(
            Plan(t, batch, mode, self.precision) for t, mode in wanted for batch in self.batches or batches_of(t, mode)
        )

    def facts(self) -> dict[str, Any]:
        """What the figures hold for."""
        return {
            "backend": self.backend,
            "threads": self.threads or torch.get_num_threads(),
            "torch": torch.__version__,
            "cpu": f"{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}, {os.cpu_count()} cores",
            "device": name_of(self.device),
            "caches": "shared by twins" if self.share_caches else "empty",
        }


@dataclass(frozen=True)
class ModelBench:
    """Everything that was measured, and on what."""

    request: Request
    cells: tuple[Cell, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON-safe."""
        cells = [cell.to_dict() for cell in self.cells]
        return {**self.request.facts(), "allocator": dict(ALLOCATOR), "cells": cells}


def run(request: Request, each: Callable[[Cell], None] = lambda _: None) -> ModelBench:
    """Measure what ``request`` says; what is being done is told on standard error.

    Args:
        request: what to measure.
        each: called with every cell as soon as it is complete.
    """
    cells = []
    with Journal(request.out) as journal:
        journal.write("request", {**request.facts(), "allocator": dict(ALLOCATOR)})
        for plan in request.plans:
            cells.append(_cell(plan, request, journal))
            journal.write("cell", cells[-1].to_dict())
            each(cells[-1])
    return ModelBench(request, tuple(cells))


def _cell(plan: Plan, request: Request, journal: Journal) -> Cell:
    names = choose(request.contenders, request.backend, request.device)
    racers: dict[str, Racer] = {}
    begin = time.monotonic()
    with ExitStack() as stack:  # whatever happens, no process outlives it
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="tzwc-bench-", ignore_cleanup_errors=True))
        for name in (None, *(name for name in names if not unfit(name, plan.mode))):
            one = _start(name, request, plan, Path(folder), stack, begin + 0.8 * request.budget)
            racers[one.name] = one
            journal.write("first call", {**plan.to_dict(), "contender": one.name, **one.known, "error": one.error})
            one.end = begin + request.budget
        with working(f"{plan}: measuring, in turns"):
            _race(racers, plan, request, journal, begin + 0.95 * request.budget)
    yard = racers.pop(_YARDSTICK)
    known = {name: yard.known[name] for name in ("allowed", "flops", "growing", "operations") if name in yard.known}
    contenders = (
        racers[name].contender() if name in racers else Contender(name, error=unfit(name, plan.mode), fit=False)
        for name in names
    )
    return Cell(plan, Yard(**known, products=yard.timing, error=yard.error), tuple(contenders))


def _start(name: str | None, request: Request, plan: Plan, folder: Path, stack: ExitStack, end: float) -> Racer:
    title = _YARDSTICK if name is None else name
    threads = request.threads or torch.get_num_threads()
    owner = title.removesuffix(TUNED) if request.share_caches else title
    process = Process(_COMMAND, environment(title, threads, folder / f"{owner}-caches"), folder / f"{title}.log")
    stack.callback(process.end)
    one = Racer(title, process, request.limit, end)
    reference, training = str(folder / "reference.pt"), plan.mode == "training"
    task = Task(
        name, plan.target, plan.batch, training, request.backend, threads, reference, request.device, request.precision
    )
    with working(f"{plan}: first call of {title}"):
        one.prepare(task)
    return one


def _race(racers: Mapping[str, Racer], plan: Plan, request: Request, journal: Journal, end: float) -> None:
    end = min(end, time.monotonic() + request.seconds)
    order = list(racers)
    for number in range(request.rounds):
        if number >= 2 and time.monotonic() > end:
            break
        for name in order:
            racers[name].turn()
        order.append(order.pop(0))  # no contender always follows the same one
        seconds = {name: one.seconds[-1] for name, one in racers.items() if not one.error}
        journal.write("round", {**plan.to_dict(), "number": number, "seconds": seconds})
