"""``tzwc bench cache``: the cost of keeping values, and who still gives them after the parameters have changed."""

from __future__ import annotations

import copy
import platform
import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tzwc.bench.cache.check_cost import CheckCost, measure_check
from tzwc.bench.cache.freshness import Freshness, freshness
from tzwc.bench.contenders import Call, build, choose, settings_of
from tzwc.bench.devices import check_device, clock_of, name_of, wait
from tzwc.errors import InvalidArgumentError, TzwcError
from tzwc.lowering.backend import check_backend
from tzwc.models import PRESETS
from tzwc.targets import InputSpec, default_inputs, resolve
from tzwc.util.console import working
from tzwc.util.timing import Timing, interleave, ratio

__all__ = ["CacheBench", "Cell", "Contender", "PresetBench", "Request", "run"]


@dataclass(frozen=True)
class Request:
    """What to measure.

    Attributes:
        presets: names of declared models.
        batches: first sizes of the input.
        backend: of ``torch.compile``.
        contenders: names of :data:`tzwc.bench.contenders.CONTENDERS`, by default all that the backend has.
        rounds: of each measurement.
        seconds: no round begins after this long in one cell.
        device: ``cpu``, or ``cuda``, where events in its stream tell the time.

    Raises:
        InvalidArgumentError: on construction, for a value that cannot be used.
        DeviceError: on construction, where the device is missing.
    """

    presets: tuple[str, ...] = ("cifar10", "smnist")
    batches: tuple[int, ...] = (1, 16, 64)
    backend: str = "inductor"
    contenders: tuple[str, ...] | None = None
    rounds: int = 25
    seconds: float = 300.0
    device: str = "cpu"

    def __post_init__(self) -> None:
        for preset in self.presets:
            if preset not in PRESETS:
                raise InvalidArgumentError(f"preset {preset!r} is unknown: choose from {', '.join(PRESETS)}")
        if not self.presets:
            raise InvalidArgumentError(f"no presets: choose from {', '.join(PRESETS)}")
        if not self.batches or min(self.batches) < 1:
            raise InvalidArgumentError(f"batches={self.batches!r}: give sizes of at least 1, such as 1,16,64")
        check_backend(self.backend)
        check_device(self.device)
        choose(self.contenders, self.backend)

    @property
    def chosen(self) -> tuple[str, ...]:
        """Names of the contenders, resolved."""
        return choose(self.contenders, self.backend)


@dataclass(frozen=True)
class Contender:
    """What was found out about one contender.

    Attributes:
        name: of the contender.
        first_call: seconds to build it and call it once.
        timing: seconds per call afterwards; ``None`` when it failed.
        freshness: how its results compare with eager's; ``None`` when it failed.
        error: why it failed; empty when it did not.
    """

    name: str
    first_call: float
    timing: Timing | None = None
    freshness: Freshness | None = None
    error: str = ""

    def to_dict(self, eager: Timing | None) -> dict[str, Any]:
        """JSON-safe; gains over ``eager`` are ``None`` without it."""
        timing, fresh = self.timing, self.freshness
        gains = None if timing is None or eager is None else (eager.median / timing.median, ratio(eager, timing))
        return {
            "contender": self.name,
            "milliseconds": None if timing is None else round(timing.median * 1e3, 3),
            "quartiles": None if timing is None else [round(value * 1e3, 3) for value in timing.quartiles],
            "rounds": 0 if timing is None else len(timing.seconds),
            "ratio of medians": None if gains is None else round(gains[0], 3),
            "median of ratios": None if gains is None else round(gains[1], 3),
            "first call, seconds": round(self.first_call, 1),
            "agrees with eager": None if fresh is None else fresh.right_before,
            "right after an optimiser step": None if fresh is None else fresh.right_after,
            "error": self.error,
        }


@dataclass(frozen=True)
class Cell:
    """All contenders for one model at one batch size."""

    batch: int
    contenders: tuple[Contender, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON-safe."""
        eager = next((c.timing for c in self.contenders if c.name == "eager"), None)
        return {"batch": self.batch, "contenders": [c.to_dict(eager) for c in self.contenders]}


@dataclass(frozen=True)
class PresetBench:
    """One model: what the check costs at every call, and the contenders at every batch size."""

    preset: str
    check: CheckCost
    cells: tuple[Cell, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON-safe."""
        cells = [cell.to_dict() for cell in self.cells]
        return {"preset": self.preset, "check": self.check.to_dict(), "batches": cells}


@dataclass(frozen=True)
class CacheBench:
    """Everything that was measured, and on what."""

    request: Request
    presets: tuple[PresetBench, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON-safe."""
        return {**facts(self.request), "presets": [preset.to_dict() for preset in self.presets]}


def facts(request: Request) -> dict[str, Any]:
    """What the figures hold for."""
    return {
        "backend": request.backend,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "cpu": f"{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}",
        "device": name_of(request.device),
    }


def run(request: Request) -> CacheBench:
    """Measure what ``request`` says; what is being done is told on standard error."""
    return CacheBench(request, tuple(_preset(preset, request) for preset in request.presets))


def _preset(preset: str, request: Request) -> PresetBench:
    torch.manual_seed(0)
    model = resolve(preset).to(request.device).eval()
    with working(f"{preset}: the check at every call"):
        check = measure_check(copy.deepcopy(model), _input(model, 1, request.device), rounds=8 * request.rounds)
    return PresetBench(preset, check, tuple(_cell(preset, model, batch, request) for batch in request.batches))


def _input(model: nn.Module, batch: int, device: str) -> Tensor:
    (declared,) = default_inputs(model)
    return InputSpec((batch, *declared.shape[1:])).make(torch.float32, torch.Generator().manual_seed(0)).to(device)


def _cell(preset: str, model: nn.Module, batch: int, request: Request) -> Cell:
    x, title = _input(model, batch, request.device), f"{preset}, batch {batch}"
    built: dict[str, tuple[Call, nn.Module]] = {}
    errors: dict[str, str] = {}
    took: dict[str, float] = {}
    for name in request.chosen:
        own = copy.deepcopy(model)  # none meets what another one has left on it
        start = time.perf_counter()
        try:
            with working(f"{title}: first call of {name}"), settings_of(name):
                call = build(name, own, x, request.backend)
                call(x)
                wait(request.device)
            built[name] = call, own
        except TzwcError:
            raise
        except Exception as error:  # another project's compiler may fail in any way; the rest is still worth knowing
            lines = str(error).strip().splitlines() or [""]
            errors[name] = f"{type(error).__name__}: {lines[0]}"
        took[name] = time.perf_counter() - start
    calls = {name: _on(call, x) for name, (call, _) in built.items()}
    with working(f"{title}: measuring, in turns"):
        clock = clock_of(request.device)
        found = interleave(calls, rounds=request.rounds, longest=request.seconds, clock=clock) if calls else []
    timings = {timing.name: timing for timing in found}
    fresh: dict[str, Freshness] = {}
    for name, (call, own) in built.items():
        with working(f"{title}: {name} after an optimiser step"), settings_of(name):
            fresh[name] = freshness(call, own, x)
    contenders = (
        Contender(name, took[name], timings.get(name), fresh.get(name), errors.get(name, "")) for name in request.chosen
    )
    return Cell(batch, tuple(contenders))


def _on(call: Call, x: Tensor) -> Any:
    return lambda: call(x)
