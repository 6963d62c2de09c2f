"""``tzwc bench capture``: a model written before anyone thought of compilers, with ``torch.compile`` and with tzwc."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tzwc import api
from tzwc.bench.breaks import Breaks, count_breaks, quiet
from tzwc.bench.cache.cache import Request as CacheRequest
from tzwc.bench.cache.cache import facts
from tzwc.bench.capture.cells import Cell, Contender
from tzwc.bench.capture.lazy_terminator import lazy_terminator
from tzwc.bench.capture.outcome import Outcome, outcome_of
from tzwc.bench.devices import check_device, clock_of, wait
from tzwc.errors import InvalidArgumentError, TzwcError
from tzwc.lowering.backend import check_backend
from tzwc.models import PRESETS, terminator_spec
from tzwc.targets import InputSpec
from tzwc.util.console import working
from tzwc.util.timing import interleave

__all__ = ["CONTENDERS", "CaptureBench", "Request", "run"]

CONTENDERS: Mapping[str, Mapping[str, Any]] = {
    "eager": {},
    "compile": {},
    "compile_static": {"dynamic": False},
    "compile_contiguous": {"options": {"layout_optimization": False}},
    "compile_limitless": {"recompile_limit": 100_000},
    "tzwc": {},
}
"""The contenders, by name, with the settings of those that are ``torch.compile``: the best of them is the peer."""

_ONLY_INDUCTOR = ("compile_contiguous",)
_ON_DEMAND = ("compile_limitless",)  # without the limit, every slow network is compiled on its own


@dataclass(frozen=True)
class Request:
    """What to measure.

    Attributes:
        preset: the declared model whose lazily initialised twin is measured.
        batches: first sizes of the input, in the order in which every contender meets them.
        backend: of ``torch.compile`` and of tzwc.
        contenders: names of :data:`CONTENDERS`; by default all that the backend has, but for ``compile_limitless``.
        rounds: of each measurement.
        seconds: no round begins after this long at one batch size.
        device: ``cpu``, or ``cuda``, where events in its stream tell the time.

    Raises:
        InvalidArgumentError: on construction, for a value that cannot be used.
        DeviceError: on construction, where the device is missing.
    """

    preset: str = "cifar10"
    batches: tuple[int, ...] = (2, 16)
    backend: str = "inductor"
    contenders: tuple[str, ...] | None = None
    rounds: int = 25
    seconds: float = 300.0
    device: str = "cpu"

    def __post_init__(self) -> None:
        if self.preset not in PRESETS:
            raise InvalidArgumentError(f"preset {self.preset!r} is unknown: choose from {', '.join(PRESETS)}")
        if not self.batches or min(self.batches) < 1:
            raise InvalidArgumentError(f"batches={self.batches!r}: give sizes of at least 1, such as 2,16")
        check_backend(self.backend)
        check_device(self.device)
        for name in self.contenders or ():
            if name not in CONTENDERS:
                raise InvalidArgumentError(f"contender {name!r} is unknown: choose from {', '.join(CONTENDERS)}")
            if name in _ONLY_INDUCTOR and self.backend != "inductor":
                raise InvalidArgumentError(f"contender {name!r} is a setting of Inductor, not of {self.backend!r}")
        if self.contenders is not None and not self.contenders:
            raise InvalidArgumentError(f"no contenders: choose from {', '.join(CONTENDERS)}")

    @property
    def chosen(self) -> tuple[str, ...]:
        """Names of the contenders, resolved."""
        if self.contenders is not None:
            return tuple(dict.fromkeys(self.contenders))
        left_out = _ON_DEMAND if self.backend == "inductor" else (*_ON_DEMAND, *_ONLY_INDUCTOR)
        return tuple(name for name in CONTENDERS if name not in left_out)


@dataclass(frozen=True)
class CaptureBench:
    """Everything that was measured, and on what.

    Attributes:
        request: what was asked for.
        parameters: of the model, number of elements.
        fresh: Dynamo's breaks where the first forward is still to come, at the first batch size.
        started: the same after it, at all batch sizes.
        cells: one for each batch size.
        outcome: what tzwc made of the model; ``None`` when it was no contender.
    """

    request: Request
    parameters: int
    fresh: Breaks
    started: Breaks
    cells: tuple[Cell, ...]
    outcome: Outcome | None

    def facts(self) -> dict[str, Any]:
        """What the figures hold for."""
        request = self.request
        return {**facts(CacheRequest(backend=request.backend, device=request.device)), "model": request.preset}

    def to_dict(self) -> dict[str, Any]:
        """JSON-safe."""
        return {
            **self.facts(),
            "parameters": self.parameters,
            "torch.compile": {"first forward": self.fresh.to_dict(), "afterwards": self.started.to_dict()},
            "tzwc": None if self.outcome is None else self.outcome.to_dict(),
            "batches": [cell.to_dict() for cell in self.cells],
        }


class _Running:
    """A contender with a model of its own, which no other one leaves anything on."""

    def __init__(self, name: str, model: nn.Module, backend: str) -> None:
        self.name = name
        self.model = copy.deepcopy(model)
        self.module: Callable[..., Any] = self.model
        self.error = ""
        if name == "tzwc":
            self.module = api.compile(self.model, backend=backend)
        elif name != "eager":
            # Isolated: the contenders share their code, and would share its limit of compilations, too.
            settings: dict[str, Any] = {"backend": backend, "isolate_recompiles": True, **CONTENDERS[name]}
            self.module = torch.compile(self.model, **settings)

    def __call__(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            result: Tensor = self.module(x)
            return result


def run(request: Request) -> CaptureBench:
    """Measure what ``request`` says; what is being done is told on standard error.

    Forgets what this process has compiled with ``torch.compile``.
    """
    torch.manual_seed(0)
    model = _moved(lazy_terminator(request.preset).eval(), request.device)
    spec = terminator_spec(request.preset)
    generator = torch.Generator().manual_seed(0)
    shapes = [(batch, spec.in_channels, *spec.sizes) for batch in request.batches]
    inputs = [InputSpec(shape).make(torch.float32, generator).to(request.device) for shape in shapes]
    parameters = sum(p.numel() for p in model.parameters())
    with working(f"{request.preset}: graph breaks of the first forward"):
        fresh = count_breaks(model, inputs[:1])
    # Trained models have their first forward behind them; it must not be counted against any contender.
    reference = copy.deepcopy(model)
    with torch.no_grad():
        reference(inputs[0])
    with working(f"{request.preset}: graph breaks afterwards"):
        started = count_breaks(reference, inputs)
    running = _start(request, reference)
    cells = tuple(_cell(request, running, reference, x) for x in inputs)
    compiled = next((one.module for one in running if one.name == "tzwc"), None)
    outcome = outcome_of(compiled) if isinstance(compiled, nn.Module) else None
    return CaptureBench(request, parameters, fresh, started, cells, outcome)


def _moved(model: nn.Module, device: str) -> nn.Module:
    """``model`` on ``device``, with the parameters in plain lists, of which ``Module.to`` does not know."""
    for module in model.to(device).modules():
        for value in vars(module).values():
            if isinstance(value, list):
                value[:] = [nn.Parameter(v.detach().to(device)) if isinstance(v, nn.Parameter) else v for v in value]
    return model


def _start(request: Request, model: nn.Module) -> list[_Running]:
    running = []
    for name in request.chosen:
        try:
            running.append(_Running(name, model, request.backend))
        except TzwcError:
            raise
        except Exception as error:
            failed = _Running("eager", model, request.backend)
            failed.name, failed.error = name, _line(error)
            running.append(failed)
    return running


def _cell(request: Request, running: list[_Running], reference: nn.Module, x: Tensor) -> Cell:
    title = f"{request.preset}, batch {len(x)}"
    with torch.no_grad():
        expected = reference(x)
    took: dict[str, float] = {}
    deviations: dict[str, tuple[float, float]] = {}
    for one in running:
        start = time.perf_counter()
        if not one.error:
            try:
                with working(f"{title}: first call of {one.name}"), quiet():
                    found = one(x)
                    wait(request.device)
                    took[one.name] = time.perf_counter() - start
                    found = one(x)  # what is kept and what is compiled a second time answers from here on
                deviations[one.name] = _distance(found, expected), _left_distance(one.model, reference)
            except TzwcError:
                raise
            except Exception as error:  # another project's compiler may fail in any way; the rest is worth knowing
                one.error = _line(error)
        took.setdefault(one.name, time.perf_counter() - start)
    calls = {one.name: _on(one, x) for one in running if not one.error}
    with working(f"{title}: measuring, in turns"), quiet():
        clock = clock_of(request.device)
        measured = interleave(calls, rounds=request.rounds, longest=request.seconds, clock=clock) if calls else []
    timings = {timing.name: timing for timing in measured}
    contenders = (
        Contender(
            one.name,
            took[one.name],
            timings.get(one.name),
            *deviations.get(one.name, (math.nan, math.nan)),
            error=one.error,
        )
        for one in running
    )
    return Cell(len(x), tuple(contenders))


def _on(call: Callable[[Tensor], Tensor], x: Tensor) -> Callable[[], Tensor]:
    return lambda: call(x)


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"


def _distance(found: Tensor, expected: Tensor) -> float:
    if found.shape != expected.shape:
        return math.inf
    scale = expected.abs().max().item()
    distance = (found.double() - expected.double()).abs().max().item()
    return distance / scale if scale else distance


def _left_distance(model: nn.Module, reference: nn.Module) -> float:
    """Of tensors that are plain attributes of modules: kernels for a regulariser, an accumulated loss."""
    distances = [0.0]
    for one, other in zip(model.modules(), reference.modules(), strict=True):
        for name, expected in vars(other).items():
            if isinstance(expected, Tensor):
                found = vars(one).get(name)
                distances.append(_distance(found, expected) if isinstance(found, Tensor) else math.inf)
    # NaN, which ``max`` may pass over, is as far away as can be.
    return max(math.inf if math.isnan(distance) else distance for distance in distances)
