"""What it costs, at every call, to find out that nothing has changed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import torch
from torch import Tensor, fx, nn

from tzwc import api
from tzwc.errors import TzwcError
from tzwc.native import ensure_native, watch_tensors
from tzwc.partition.static_cache import Check, StaticCache
from tzwc.runtime.module_guard import ModuleGuard
from tzwc.runtime.specialisation import Specialisation
from tzwc.util.timing import Timing, interleave

__all__ = ["CheckCost", "measure_check"]

_BUILD_SECONDS = 300.0  # to compile the native watch, when this machine has not done so yet
_BURST = 0.002  # seconds: long against the clock's resolution, short against a time slice


@dataclass(frozen=True)
class CheckCost:
    """The parts of the check that ``tzwc`` makes at every call under ``no_grad``.

    The parts do not depend on the batch size: none of them looks at the input.

    Attributes:
        native: whether the native watch was used.
        parameters: of the model.
        slots: parameters and buffers that the graph reads.
        watched: those of them that kept values are computed from.
        kept: number of kept values.
        kept_bytes: bytes held by them.
        guard: modules, hooks and Python attributes (``ModuleGuard.holds``).
        layout: sizes, strides, dtypes and devices of every slot.
        cache: whether the kept values are fresh, by ``check``.
        call: a whole call whose compiled code does nothing, by ``check``: the three parts, and everything around them.
    """

    native: bool
    parameters: int
    slots: int
    watched: int
    kept: int
    kept_bytes: int
    guard: Timing
    layout: Timing
    cache: dict[Check, Timing]
    call: dict[Check, Timing]

    def total(self, check: Check) -> float:
        """Guard, layout and cache together: the sum of their medians, in seconds."""
        return self.guard.median + self.layout.median + self.cache[check].median

    def least(self, check: Check) -> float:
        """The sum of the shortest times, in seconds."""
        return sum(min(part.seconds) for part in (self.guard, self.layout, self.cache[check]))

    def to_dict(self) -> dict[str, Any]:
        """JSON-safe, times in microseconds."""
        microseconds: dict[str, Any] = {"guard": _microseconds(self.guard), "layout": _microseconds(self.layout)}
        for check in self.cache:
            microseconds[f"cache, {check}"] = _microseconds(self.cache[check])
        for check in self.cache:
            least, median = self.least(check), self.total(check)
            microseconds[f"sum, {check}"] = {"least": round(least * 1e6, 1), "median": round(median * 1e6, 1)}
        for check in self.call:
            microseconds[f"call, {check}"] = _microseconds(self.call[check])
        return {
            "native watch": self.native,
            "parameters": self.parameters,
            "slots": self.slots,
            "watched slots": self.watched,
            "kept values": self.kept,
            "kept bytes": self.kept_bytes,
            "microseconds": microseconds,
        }


def measure_check(model: nn.Module, x: Tensor, *, rounds: int = 200) -> CheckCost:
    """Measure the check for ``model``, in evaluation mode.

    Args:
        model: is captured with the default passes; its compiled code is replaced by nothing.
        x: any input.
        rounds: of about 2 ms for each part.

    Raises:
        TzwcError: the model cannot be captured.
    """
    native = ensure_native(_BUILD_SECONDS)
    fast = api.compile(model, backend=_nothing, verify=False)
    with torch.no_grad():
        fast(x)
        if not fast.specialisations:
            raise TzwcError(f"the model cannot be captured: {fast.remarks[-1].reason}")
        (made,) = fast.specialisations
        guard = ModuleGuard(model)
        tensors = [slot.fetch() for slot in made.captured.slots]
        layouts = watch_tensors(tensors, content=False)
        watched = _watched(made)
        caches = _caches(made, watched)
        parts: dict[str, Callable[[], object]] = {
            "guard": guard.holds,
            "layout": lambda: layouts.changed(tensors),
            **{f"cache, {check}": _get(cache, watched) for check, cache in caches.items()},
        }
        found = {t.name: t for t in interleave(parts, rounds=rounds, shortest=_BURST)}
        calls: dict[Check, Timing] = {}
        for check, cache in caches.items():
            made.cache = cache
            (calls[check],) = interleave({check: lambda: fast(x)}, rounds=rounds, shortest=_BURST)
    return CheckCost(
        native=native,
        parameters=sum(1 for _ in model.parameters()),
        slots=len(tensors),
        watched=len(watched),
        kept=len(made.split.program.values),
        kept_bytes=made.cache.stats.bytes,
        guard=found["guard"],
        layout=found["layout"],
        cache={check: found[f"cache, {check}"] for check in caches},
        call=calls,
    )


def _nothing(module: fx.GraphModule, examples: Sequence[Any]) -> Callable[..., Any]:
    """A backend whose code takes no time: it returns the first call's results."""
    del examples
    results: list[Any] = []

    def code(*arguments: Any) -> list[Any]:
        if not results:
            results.extend(module(*arguments))
        return results

    return code


def _watched(made: Specialisation) -> list[Tensor]:
    by_path = {slot.path: slot for slot in made.captured.slots}
    return [by_path[path].fetch() for path in made.static_slot_paths]


def _caches(made: Specialisation, watched: Sequence[Tensor]) -> dict[Check, StaticCache]:
    names = {slot.path: slot.name for slot in made.captured.slots}
    slots = [names[path] for path in made.static_slot_paths]
    caches: dict[Check, StaticCache] = {}
    for check in reversed(get_args(Check)):  # the cheap one first
        caches[check] = StaticCache(made.split.program, slots, check)
        caches[check].get(watched)
    return caches


def _get(cache: StaticCache, watched: Sequence[Tensor]) -> Callable[[], object]:
    return lambda: cache.get(watched)


def _microseconds(timing: Timing) -> dict[str, float]:
    return {"least": round(min(timing.seconds) * 1e6, 1), "median": round(timing.median * 1e6, 1)}
