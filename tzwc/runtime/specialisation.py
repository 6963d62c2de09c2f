"""One captured, rewritten and lowered graph of a module, good for one mode and one class of input sizes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import torch

from tzwc.errors import CaptureError
from tzwc.inspection import Stage
from tzwc.ir.pytree import unflatten_result
from tzwc.ir.remarks import Remark
from tzwc.native import watch_tensors
from tzwc.options import CompileOptions
from tzwc.partition.partitioner import Split, identical_results, results_as_captured, results_of, split
from tzwc.partition.static_cache import StaticCache
from tzwc.rewrite.pass_manager import run_pipeline
from tzwc.runtime.lowered_code import LoweredCode
from tzwc.tracing.assumptions import Assumption, AssumptionGuard
from tzwc.tracing.capture import Capture
from tzwc.tracing.parametrized import caching
from tzwc.tracing.side_effects import replay
from tzwc.util.autocast import active_autocast, autocast_as

__all__ = ["Outdated", "Specialisation"]


@dataclass(frozen=True)
class Outdated:
    """Why a graph cannot serve a call.

    Attributes:
        assumption: that no longer holds; ``None`` when a parameter or buffer is gone or has another layout.
    """

    assumption: Assumption | None = None


Keep = Callable[["Specialisation", Sequence[torch.Tensor]], Sequence[torch.Tensor]]
"""Gives the kept values of a specialisation, from the slots that they are computed from."""


class Specialisation:
    """A graph with its kept values and its lowered code.

    Args:
        captured: the module as a graph.
        varying: names of slots that must not be treated as constant (they receive gradients).
        options: of ``tzwc.compile``.
        grad: whether gradients are recorded.
        capture_seconds: wall time that the capture took.

    Attributes:
        stages: the graph after every pass.
        split: its static and residual parts.
        cache: the kept values.
        code: its residual part, lowered.
        calls: how often it ran.
        outdated: whether an assumption of it has ever failed at a call; it serves again when they hold again.
    """

    def __init__(
        self,
        captured: Capture,
        varying: frozenset[str],
        options: CompileOptions,
        *,
        grad: bool = False,
        capture_seconds: float = 0.0,
    ) -> None:
        self.captured = captured
        self.varying = varying
        self.grad = grad
        self.capture_seconds = capture_seconds
        self.calls = 0
        self.outdated = False
        self._autocast = bool(active_autocast())  # at every call, since it is part of the cache key
        self._options = options
        static = frozenset(slot.name for slot in captured.slots) - varying
        results = results_of(captured.module.graph)
        stages = run_pipeline(
            captured.module,
            options.passes,
            options=options.for_passes(grad=grad),
            static_slots=static,
            slots={slot.name: slot.path for slot in captured.slots},
            snapshots=options.snapshots,
        )
        results_as_captured(captured.module.graph, results)
        self.stages = [Stage.of(stage) for stage in stages]
        self.split: Split = split(captured.module, [slot.name for slot in captured.slots], captured.inputs)
        self._identical = identical_results(self.split.residual.graph)
        self._slots = captured.slots
        self._refetch = any(not isinstance(slot.container, dict) for slot in captured.slots)
        tensors = self._fetch()
        if tensors is None:
            raise CaptureError("a parameter or buffer that the graph reads is not held by the module any more")
        # One object, so that a thread never sees the tensors of one generation with the number of another.
        self._fetched: tuple[int, list[torch.Tensor]] = -1, tensors
        self._layouts = watch_tensors(tensors, content=False, compare_bytes=False)
        self._compiled_for = self._described(tensors)
        position = {slot.name: i for i, slot in enumerate(captured.slots)}
        read = sorted({position[name] for value in self.split.program.values for name in value.slots})
        self._static_positions = read
        self._pick_static = _picker(read)
        self._assumed = AssumptionGuard(captured.assumptions, options.check == "bytes")
        self._pick_assumed = _picker([position[name] for name in captured.assumptions.slots])
        self._pick_residual = _picker([position[name] for name in self.split.slots])
        self.cache = StaticCache(self.split.program, [self._slots[i].name for i in read], options.check)
        self.code = LoweredCode(self.split.residual, options, grad=grad)

    @property
    def level(self) -> str:
        """How the newest call ran, see :attr:`tzwc.CompiledModule.level`."""
        level = "whole graph with assumptions" if self.captured.assumptions.entries else "whole graph"
        return f"{level}, not lowered: {self.code.not_lowered}" if self.code.not_lowered else level

    @property
    def remarks(self) -> list[Remark]:
        """What lowering had to say."""
        return self.code.remarks

    @property
    def static_slot_paths(self) -> list[str]:
        """Dotted names of the slots that kept values are computed from."""
        return [self._slots[i].path for i in self._static_positions]

    def parameters(self) -> tuple[list[torch.Tensor], list[str]]:
        """The parameters that the graph read at its last call, and their dotted names."""
        chosen = [(t, s.path) for t, s in zip(self._fetched[1], self._slots, strict=True) if s.kind == "parameter"]
        return [tensor for tensor, _ in chosen], [path for _, path in chosen]

    def evaluate_static(self, tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Every kept value, evaluated from these slots and with gradients when they are recorded."""
        names = [self._slots[i].name for i in self._static_positions]
        return self.split.program.evaluate(
            dict(zip(names, tensors, strict=True)), range(len(self.split.program.values))
        )

    def look_up(self, generation: int) -> list[torch.Tensor] | Outdated:
        """The tensors of the slots for a call now, or why the graph cannot serve it.

        Args:
            generation: of the module guard; slots are read again when it differs from that of the last call.
        """
        fetched, known = self._fetched
        tensors: list[torch.Tensor] | None = known
        if generation != fetched or self._refetch:
            tensors = self._fetch()
            if tensors is None:
                return Outdated()
            self._fetched = generation, tensors
        assert tensors is not None
        if self._layouts.changed(tensors) and not self._fits(tensors):
            return Outdated()
        if self.captured.assumptions.entries:
            violated = self._assumed.violated(self._pick_assumed(tensors))
            if violated is not None:
                return Outdated(violated)
        return tensors

    def __call__(
        self, inputs: Sequence[torch.Tensor], tensors: Sequence[torch.Tensor], keep: Keep | None = None
    ) -> Any:
        """Run the graph.

        Args:
            inputs: tensors among the arguments, in order.
            tensors: of the slots, as :meth:`look_up` gave them.
            keep: gives the kept values; by default the cache does.
        """
        static = self._pick_static(tensors)
        self.calls += 1
        with autocast_as(()) if self._autocast else nullcontext():  # what it converts is part of the graph
            kept = self.cache.get(static) if keep is None else keep(self, static)
            arguments = [*self._pick_residual(tensors), *kept, *inputs]
            outputs = self.code(inputs, arguments)
        if self._identical:
            outputs = list(outputs)
            for index, place in self._identical:
                outputs[index] = arguments[place] if place >= 0 else outputs[~place]
        spec = self.captured.out_spec
        if self.captured.printed or self.captured.effects:
            for printed, options in self.captured.printed:
                print(*printed, **options)
            replay(self.captured.effects, outputs[spec.num_leaves :])
        return unflatten_result(outputs[: spec.num_leaves], spec)

    def holds(self) -> bool:
        """Whether what the graph takes for granted is so."""
        if any(slot.kind == "parametrized" for slot in self._slots) and not caching():
            return False
        tensors = self._fetch()
        return tensors is not None and self._assumed.violated(self._pick_assumed(tensors)) is None

    def _fits(self, tensors: list[torch.Tensor]) -> bool:
        """Whether tensors differ in ``requires_grad`` at most, which is part of the caller's key."""
        if self._described(tensors) != self._compiled_for:
            return False
        self._layouts = watch_tensors(tensors, content=False, compare_bytes=False)
        return True

    def _described(self, tensors: Sequence[torch.Tensor]) -> list[Any]:
        """What compiled code assumes; of cached weights, whether the block's first access recorded gradients too."""
        cached = [self.grad and slot.kind == "parametrized" for slot in self._slots]
        return [(*_layout(t), c and t.requires_grad) for t, c in zip(tensors, cached, strict=True)]

    def _fetch(self) -> list[torch.Tensor] | None:
        """What the slots hold now; ``None`` when one of them holds no tensor any more."""
        try:
            tensors = [slot.container[slot.key] for slot in self._slots]
        except (KeyError, IndexError):
            return None
        return tensors if all(isinstance(t, torch.Tensor) for t in tensors) else None


def _layout(tensor: torch.Tensor) -> tuple[torch.Size, tuple[int, ...], torch.dtype, torch.device]:
    """What compiled code assumes of a parameter or buffer."""
    return tensor.shape, tensor.stride(), tensor.dtype, tensor.device


def _picker(positions: Sequence[int]) -> Callable[[Sequence[torch.Tensor]], tuple[torch.Tensor, ...]]:
    """Takes the entries at ``positions``; ``itemgetter`` does so several times faster than a loop."""
    if len(positions) > 1:
        return itemgetter(*positions)
    return lambda tensors: tuple(tensors[i] for i in positions)
