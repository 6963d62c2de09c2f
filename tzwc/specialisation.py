"""One captured, rewritten and lowered graph of a module, good for one mode and one class of input sizes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import torch
from torch.utils import _pytree as pytree

from tzwc.cache import StaticCache
from tzwc.capture import Capture
from tzwc.graph import fake_mode_of
from tzwc.guards import TensorLayout, layout_of
from tzwc.lowering import Lowered, lower
from tzwc.options import CompileOptions
from tzwc.pipeline import Stage, run_pipeline
from tzwc.remarks import Remark
from tzwc.shapes import is_symbolic
from tzwc.split import Split, split

__all__ = ["SlotsChanged", "Specialisation"]


class SlotsChanged(Exception):
    """A parameter or buffer no longer has the layout that the graph was made for; capture again."""


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
        remarks: what lowering had to say.
        lowering_seconds: time spent in the backend so far.
        calls: how often it ran.
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
        self._options = options
        self.remarks: list[Remark] = []
        self.lowering_seconds = 0.0
        static = frozenset(slot.name for slot in captured.slots) - varying
        settings = {"cache_bytes": options.cache_bytes, "convolution": options.convolution}
        self.stages: list[Stage] = run_pipeline(captured.module, options.passes, options=settings, static_slots=static)
        self.split: Split = split(captured.module, [slot.name for slot in captured.slots], captured.inputs)
        self._slots = captured.slots
        self._layouts: list[TensorLayout] = [layout_of(slot.fetch()) for slot in captured.slots]
        position = {slot.name: i for i, slot in enumerate(captured.slots)}
        read = sorted({position[name] for value in self.split.program.values for name in value.slots})
        self._static_positions = read
        self._residual_positions = [position[name] for name in self.split.slots]
        self.cache = StaticCache(self.split.program, [self._slots[i].name for i in read], options.check)
        self._static_code: dict[tuple[Any, ...], Lowered] = {}
        self._dynamic_code: Lowered | None = None

    def __call__(self, inputs: Sequence[torch.Tensor]) -> Any:
        """Run on the tensor leaves of the arguments, in order; returns the module's result.

        Raises:
            SlotsChanged: a slot is gone or has another layout.
        """
        try:
            tensors = [slot.container[slot.key] for slot in self._slots]
            if [layout_of(t) for t in tensors] != self._layouts:
                raise SlotsChanged
        except (KeyError, IndexError, AttributeError, TypeError) as error:
            raise SlotsChanged from error
        kept = self.cache.get([tensors[i] for i in self._static_positions])
        arguments = [*(tensors[i] for i in self._residual_positions), *kept, *inputs]
        self.calls += 1
        outputs = self._code_for(inputs, arguments)(*arguments)
        return pytree.tree_unflatten(list(outputs), self.captured.out_spec)

    def _code_for(self, inputs: Sequence[torch.Tensor], arguments: Sequence[torch.Tensor]) -> Lowered:
        key = tuple((t.shape, t.stride()) for t in inputs)
        code = self._static_code.get(key)
        if code is not None:
            return code
        if len(self._static_code) < self._options.static_sizes or not self._symbolic():
            code = self._lower(arguments, symbolic=False)
            self._static_code[key] = code
            return code
        if self._dynamic_code is None:
            self._dynamic_code = self._lower(arguments, symbolic=True)
        return self._contiguous(self._dynamic_code)

    def _contiguous(self, code: Lowered) -> Lowered:
        count = len(self.captured.inputs)

        def run(*arguments: torch.Tensor) -> Sequence[Any]:
            split_at = len(arguments) - count
            return code(*arguments[:split_at], *(t.contiguous() for t in arguments[split_at:]))

        return run

    def _symbolic(self) -> bool:
        placeholders = [n for n in self.split.residual.graph.nodes if n.op == "placeholder"]
        return any(is_symbolic(size) for n in placeholders for size in n.meta["val"].shape)

    def _lower(self, arguments: Sequence[torch.Tensor], *, symbolic: bool) -> Lowered:
        start = time.perf_counter()
        residual = self.split.residual
        try:
            if symbolic:
                fakes = [n.meta["val"] for n in residual.graph.nodes if n.op == "placeholder"]
                return lower(residual, fakes, self._options.backend, fake_mode_of(residual.graph))
            return lower(residual, arguments, self._options.backend)
        except Exception as error:  # a backend may fail in any way; the graph itself still gives the answer
            reason = f"{self._options.backend!r} failed ({type(error).__name__}: {error}); the graph runs eagerly"
            self.remarks.append(Remark("lowering", "declined", "backend", reason))
            return residual
        finally:
            self.lowering_seconds += time.perf_counter() - start
