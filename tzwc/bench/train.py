"""``tzwc bench train``: how long an epoch takes, eager, through ``torch.compile`` and through ``tzwc.compile``."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from rich.console import Console
from rich.table import Table

import tzwc
from tzwc.bench.devices import check_device, clock_of, name_of, wait
from tzwc.data import Dataset, load
from tzwc.describe import versions
from tzwc.errors import InvalidArgumentError
from tzwc.models import Terminator, TerminatorSpec
from tzwc.models.validation import closest
from tzwc.terminal import working
from tzwc.timing import Timing, ratio
from tzwc.training import Trainer, task

__all__ = ["CONTENDERS", "WORKLOADS", "Request", "TrainBench", "run", "show_train"]

CONTENDERS: Final = ("eager", "compile", "tzwc")
"""The module as it is, ``torch.compile`` and ``tzwc.compile``."""

WORKLOADS: Final[Mapping[str, str]] = {
    "digits": "8×8 images",
    "sdigits": "sequences of 64 pixels",
    "mnist1d": "MNIST-1D, sequences of 40 values",
    "digits32": "the same images, interpolated to 32×32",
    "sdigits784": "the images interpolated to 28×28, as sequences of 784 pixels",
}
"""Offline work by name."""

_MANY = 100_000


@dataclass(frozen=True)
class Request:
    """What to measure.

    Attributes:
        workloads: keys of :data:`WORKLOADS`.
        contenders: of :data:`CONTENDERS`, ``eager`` first.
        backend: of ``torch.compile``, for both that compile.
        rounds: steps of every contender that are timed, in turns.
        device: ``cpu``, or ``cuda``, where events in its stream tell the time.

    Raises:
        InvalidArgumentError: an unknown name, or too few rounds.
        DeviceError: the device is missing.
    """

    workloads: Sequence[str]
    contenders: Sequence[str] = CONTENDERS
    backend: str = "inductor"
    rounds: int = 15
    device: str = "cpu"

    def __post_init__(self) -> None:
        for field, names, known in (
            ("workloads", self.workloads, tuple(WORKLOADS)),
            ("contenders", self.contenders, CONTENDERS),
        ):
            for name in names:
                if name not in known:
                    raise InvalidArgumentError(f"{field} {name!r}: expected {closest(name, known)}")
            if not names:
                raise InvalidArgumentError(f"{field}: none given; choose from {', '.join(known)}")
        if self.rounds < 2:
            raise InvalidArgumentError(f"rounds = {self.rounds}: expected at least 2")
        check_device(self.device)


@dataclass(frozen=True)
class Contender:
    """What one of them took.

    Attributes:
        timing: of a step: forward, backward and optimiser, without data loading from disk, with augmentation.
        first: seconds until the first step was done, compilation included.
        epoch: seconds an epoch, at the median step.
        gap: largest difference of a loss from the first contender's.
    """

    timing: Timing
    first: float
    epoch: float
    gap: float


@dataclass(frozen=True)
class TrainBench:
    """What was measured: the request, and contenders by workload."""

    request: Request
    found: Mapping[str, Sequence[Contender]]

    def to_dict(self) -> dict[str, Any]:
        """The measurement as JSON knows it."""
        return {
            "versions": dict(versions()),
            "threads": torch.get_num_threads(),
            "device": name_of(self.request.device),
            "request": dataclasses.asdict(self.request),
            "workloads": {name: [dataclasses.asdict(c) for c in group] for name, group in self.found.items()},
        }


def run(request: Request) -> TrainBench:
    """Train every contender step by step, in turns, on the same batches from the same parameters."""
    return TrainBench(request, {name: _measure(name, request) for name in request.workloads})


def show_train(bench: TrainBench, console: Console) -> None:
    """Print what was measured."""
    request, threads = bench.request, torch.get_num_threads()
    device = name_of(request.device)
    console.print(
        f"backend {request.backend}, {threads} thread(s), {device}, batch 64, float32, {request.rounds} steps"
    )
    table = Table()
    for heading in ("", "", "first step", "step", "epoch", "faster than the first", "largest gap of a loss"):
        table.add_column(heading, justify="left" if not heading else "right")
    for name, group in bench.found.items():
        for contender in group:
            table.add_row(
                name if contender is group[0] else "",
                contender.timing.name,
                f"{contender.first:.1f} s",
                f"{contender.timing.median * 1e3:.0f} ms",
                f"{contender.epoch:.1f} s",
                f"{ratio(group[0].timing, contender.timing):.2f}×",
                f"{contender.gap:.1e}",
            )
    console.print(table)
    console.print(
        "losses part as float32 rounds; in float64 they are equal to 1e-8 (tests/training/test_same_losses.py)"
    )


def _measure(name: str, request: Request) -> list[Contender]:
    data, spec = _work(name)
    trainers: dict[str, Trainer] = {}
    first: dict[str, float] = {}
    for contender in request.contenders:
        with working(f"{name}: the first steps of {contender}"):
            begin = time.perf_counter()
            trainers[contender] = _trainer(contender, data, spec, request)
            trainers[contender].fit(steps=1)
            wait(request.device)
            first[contender] = time.perf_counter() - begin
            trainers[contender].fit(steps=2)
    seconds: dict[str, list[float]] = {contender: [] for contender in trainers}
    order = list(trainers)
    with working(f"{name}: {request.rounds} steps of each, in turns"):
        for _ in range(request.rounds):
            for contender in order:
                seconds[contender].append(_step(trainers[contender], request.device))
            order.append(order.pop(0))  # no contender always follows the same one
    reference = trainers[request.contenders[0]].losses
    found = []
    for contender, trainer in trainers.items():
        timing = Timing(contender, tuple(seconds[contender]))
        gap = max(abs(a - b) for a, b in zip(trainer.losses, reference, strict=True))
        found.append(Contender(timing, first[contender], timing.median * trainer.steps_per_epoch, gap))
    return found


def _step(trainer: Trainer, device: str) -> float:
    """Take one step; its seconds."""
    clock, before = clock_of(device), trainer.seconds
    if clock is not None:
        return clock(lambda: trainer.fit(steps=trainer.step + 1), 1)
    trainer.fit(steps=trainer.step + 1)
    return trainer.seconds - before


def _trainer(contender: str, data: Dataset, spec: TerminatorSpec, request: Request) -> Trainer:
    # Many epochs: the learning rate hardly changes, and no contender comes to the end.
    recipe = dataclasses.replace(task("digits").recipe, crop=0, epochs=_MANY, warm_up=0)
    torch.manual_seed(0)
    model = Terminator(spec).to(request.device)
    compiled: Any = model
    if contender == "tzwc":
        compiled = tzwc.compile(model, backend=request.backend)
    elif contender == "compile":
        # Contenders share code objects: without isolation, one would run the graph that was compiled for another.
        isolated: Any = {"isolate_recompiles": True}
        compiled = torch.compile(model, backend=request.backend, **isolated)
    return Trainer(model, data, recipe, compiled=compiled)


def _work(name: str) -> tuple[Dataset, TerminatorSpec]:
    if name in ("digits", "sdigits", "mnist1d"):
        return load(name), task(name).spec
    size = 32 if name == "digits32" else 28
    images = load("digits").resized((size, size))
    if name == "digits32":
        return images, dataclasses.replace(task("digits").spec, sizes=(size, size))
    data = images.as_sequences(name)
    base = task("smnist").spec
    small = {f.name: getattr(task("sdigits").spec, f.name) for f in dataclasses.fields(base) if f.name.endswith("_net")}
    spec = dataclasses.replace(base, factors=(12, 2, 1), skips=None, dropout=0.0, **small)
    assert math.prod(data.grid) == spec.sizes[0]
    return data, spec
