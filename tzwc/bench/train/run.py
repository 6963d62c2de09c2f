"""``tzwc bench train``: how long an epoch takes, eager, through ``torch.compile`` and through ``tzwc.compile``."""

from __future__ import annotations

import dataclasses
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import torch

from tzwc import api
from tzwc.autotune.fingerprint import fingerprint
from tzwc.bench.devices import check_device, clock_of, name_of, wait
from tzwc.bench.journal import Journal
from tzwc.bench.model.contenders import ALLOCATOR, CONTENDERS, available, unfit
from tzwc.data import Dataset, load
from tzwc.errors import InvalidArgumentError
from tzwc.lowering.backend import check_backend
from tzwc.models import Terminator, TerminatorSpec
from tzwc.models.validation import closest
from tzwc.runtime.records import versions
from tzwc.training import Trainer, task
from tzwc.util.console import working
from tzwc.util.timing import Timing

__all__ = ["WORKLOADS", "Contender", "Request", "TrainBench", "run"]

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
        contenders: of :data:`~tzwc.bench.model.contenders.CONTENDERS`, those that are for inference alone aside; by
            default all that there are with the backend. Ratios are to the first.
        backend: of ``torch.compile``, for all that compile.
        rounds: steps of every contender that are timed, in turns.
        device: ``cpu``, or ``cuda``, where events in its stream tell the time.
        out: a file for one line of JSON for each task, written when it is done; what it holds already for the same
            machine and request is not measured again.

    Raises:
        InvalidArgumentError: an unknown name, or too few rounds.
        DeviceError: the device is missing.
    """

    workloads: Sequence[str]
    contenders: Sequence[str] | None = None
    backend: str = "inductor"
    rounds: int = 15
    device: str = "cpu"
    out: Path | None = None

    def __post_init__(self) -> None:
        check_backend(self.backend)
        known = [name for name in available(self.backend) if not unfit(name, "training")]
        object.__setattr__(self, "contenders", tuple(known if self.contenders is None else self.contenders))
        for field, names, choices in (
            ("workloads", self.workloads, tuple(WORKLOADS)),
            ("contenders", self.chosen, known),
        ):
            for name in names:
                if name not in choices:
                    raise InvalidArgumentError(f"{field} {name!r}: expected {closest(name, choices)}")
            if not names:
                raise InvalidArgumentError(f"{field}: none given; choose from {', '.join(choices)}")
        if self.rounds < 2:
            raise InvalidArgumentError(f"rounds = {self.rounds}: expected at least 2")
        check_device(self.device)

    @property
    def chosen(self) -> tuple[str, ...]:
        """The contenders' names."""
        return tuple(dict.fromkeys(self.contenders or ()))

    @property
    def identity(self) -> dict[str, Any]:
        """What lines of a file must agree in to belong to the same measurement."""
        return {
            "contenders": list(self.chosen),
            "backend": self.backend,
            "rounds": self.rounds,
            "machine": fingerprint(self.device),
            "allocator": allocator(),
        }


@dataclass(frozen=True)
class Contender:
    """What one of them took.

    Attributes:
        timing: of a step: forward, backward and optimiser, without data loading from disk, with augmentation. No times
            where it failed.
        first: seconds until the first step was done, compilation included.
        epoch: seconds an epoch, at the median step.
        gap: largest difference of a loss from the first contender's.
        error: why it failed, or nothing.
    """

    timing: Timing
    first: float = math.nan
    epoch: float = math.nan
    gap: float = math.nan
    error: str = ""

    def to_dict(self) -> dict[str, Any]:
        """JSON-safe: null for what there is not."""
        return {k: None if v != v else v for k, v in dataclasses.asdict(self).items()}

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> Contender:
        """The inverse of :meth:`to_dict`.

        Raises:
            AttributeError, KeyError, TypeError, ValueError: it is something else.
        """
        timing = Timing(str(fields["timing"]["name"]), tuple(map(float, fields["timing"]["seconds"])))
        if not fields["error"] and not timing.seconds:
            raise ValueError("no times")
        numbers = [math.nan if fields[name] is None else float(fields[name]) for name in ("first", "epoch", "gap")]
        return cls(timing, numbers[0], numbers[1], numbers[2], str(fields["error"]))


@dataclass(frozen=True)
class TrainBench:
    """What was measured: the request, and contenders by workload."""

    request: Request
    found: Mapping[str, Sequence[Contender]]

    def to_dict(self) -> dict[str, Any]:
        """The measurement as JSON knows it."""
        request = {k: v for k, v in dataclasses.asdict(self.request).items() if k != "out"}
        return {
            "versions": dict(versions()),
            "threads": torch.get_num_threads(),
            "device": name_of(self.request.device),
            "allocator": allocator(),
            "request": request,
            "workloads": {name: [c.to_dict() for c in group] for name, group in self.found.items()},
        }


def allocator() -> dict[str, str]:
    """What the environment says to the allocator, which all contenders share: it belongs to every figure."""
    return {name: os.environ[name] for name in ALLOCATOR if name in os.environ}


def run(request: Request, each: Callable[[str, Sequence[Contender]], None] = lambda *_: None) -> TrainBench:
    """Train every contender step by step, in turns, on the same batches from the same parameters.

    Args:
        request: what.
        each: called with every workload and its contenders as soon as it is done, and with what there is when Ctrl-C
            ends it after two rounds.
    """
    journal = Journal(request.out, request.identity)
    found = {}
    for name in dict.fromkeys(request.workloads):
        line = journal.once(name, 0, partial(_line, name, request, each))
        try:
            found[name] = [Contender.of(entry) for entry in line["contenders"]]
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise InvalidArgumentError(
                f"--out {str(request.out)!r}: its line about {name} is no measurement of training; give another file"
            ) from error
        each(name, found[name])
    return TrainBench(request, found)


def _line(name: str, request: Request, each: Callable[[str, Sequence[Contender]], None]) -> dict[str, Any]:
    """Measure a workload; JSON-safe."""
    data, spec = _work(name)
    racers = []
    for contender in request.chosen:
        with working(f"{name}: the first steps of {contender}"):
            racers.append(_start(contender, data, spec, request))
    running = [racer for racer in racers if racer.trainer is not None]
    order = list(running)
    try:
        with working(f"{name}: {request.rounds} steps of each, in turns"):
            for _ in range(request.rounds):
                for racer in order:
                    racer.step(request.device)
                order.append(order.pop(0))  # no contender always follows the same one
    except KeyboardInterrupt:
        rounds = min(len(racer.seconds) for racer in running)
        if rounds >= 2:
            each(f"{name}, {rounds} steps", _contenders(racers, rounds))
        raise
    return {"contenders": [contender.to_dict() for contender in _contenders(racers, request.rounds)]}


@dataclass
class _Racer:
    """A contender while it runs; it has no trainer where it failed."""

    name: str
    trainer: Trainer | None = None
    first: float = math.nan
    error: str = ""
    seconds: list[float] = dataclasses.field(default_factory=list)

    def step(self, device: str) -> None:
        """Take one step and note its seconds."""
        trainer, clock = self.trainer, clock_of(device)
        assert trainer is not None
        step, before = partial(trainer.fit, steps=trainer.step + 1, listen=False), trainer.seconds
        if clock is not None:
            self.seconds.append(clock(step, 1))
        else:
            step()
            self.seconds.append(trainer.seconds - before)


def _start(contender: str, data: Dataset, spec: TerminatorSpec, request: Request) -> _Racer:
    """The contender after its first two steps, which compile."""
    begin = time.perf_counter()
    try:
        trainer = _trainer(contender, data, spec, request)
        trainer.fit(steps=1, listen=False)
        wait(request.device)
        first = time.perf_counter() - begin
        trainer.fit(steps=2, listen=False)
    except Exception as error:  # whatever a compiler raises: the others are measured all the same
        return _Racer(contender, error=f"{type(error).__name__}: {error}")
    return _Racer(contender, trainer, first)


def _contenders(racers: Sequence[_Racer], rounds: int) -> list[Contender]:
    """What they took in the first ``rounds`` rounds."""
    found = []
    reference = next((racer.trainer.losses for racer in racers if racer.trainer is not None), [])
    for racer in racers:
        timing = Timing(racer.name, tuple(racer.seconds[:rounds]))
        if racer.trainer is None:
            found.append(Contender(timing, error=racer.error))
            continue
        steps = rounds + 2
        gap = max(abs(a - b) for a, b in zip(racer.trainer.losses[:steps], reference[:steps], strict=True))
        found.append(Contender(timing, racer.first, timing.median * racer.trainer.steps_per_epoch, gap))
    return found


def _trainer(contender: str, data: Dataset, spec: TerminatorSpec, request: Request) -> Trainer:
    # Many epochs: the learning rate hardly changes, and no contender comes to the end.
    recipe = dataclasses.replace(task("digits").recipe, crop=0, epochs=_MANY, warm_up=0)
    torch.manual_seed(0)
    model = Terminator(spec).to(request.device)
    compiled: Any = model
    if contender == "tzwc":
        compiled = api.compile(model, backend=request.backend)
    elif contender != "eager":
        # Contenders share code objects: without isolation, one would run the graph that was compiled for another.
        settings: dict[str, Any] = {"isolate_recompiles": True, "options": dict(CONTENDERS[contender]) or None}
        compiled = torch.compile(model, backend=request.backend, **settings)
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
