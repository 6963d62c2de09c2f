"""One graph of Dynamo's after the passes: its kept values, its lowered code, and what is to be said about it."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, fx

from tzwc._torch.autocast import DisableAutocast, any_autocast_enabled
from tzwc._torch.dispatch import count_dispatch_modes
from tzwc._torch.dynamo import RestartAnalysis, SkipFrame
from tzwc._torch.fake_tensors import TracingContext, tracing
from tzwc.autotune import Tune
from tzwc.dynamo.record import record_of
from tzwc.dynamo.retrace import GraphSlot, Retraced, is_plain, retrace
from tzwc.dynamo.static_caches import KeptValues
from tzwc.dynamo.verify import disagreement
from tzwc.errors import CaptureError, TzwcError
from tzwc.inspection import Report, Stage
from tzwc.ir.graph import alias_groups, is_mutating, is_random
from tzwc.ir.remarks import Remark
from tzwc.lowering.backend import Lowered, compiled, inductor_settings, not_lowered
from tzwc.lowering.double_backward import finished
from tzwc.options import CompileOptions
from tzwc.partition.partitioner import Split, split
from tzwc.rewrite.pass_manager import run_pipeline
from tzwc.runtime.environment import shortcomings
from tzwc.runtime.records import versions

__all__ = ["CompiledGraph", "compiled_graphs"]

_made: list[weakref.ref[CompiledGraph]] = []


def compiled_graphs() -> list[CompiledGraph]:
    """Every graph that ``backend="tzwc"`` was given in this process and that Dynamo still uses, the oldest first.

    They are held weakly: ``torch._dynamo.reset()`` lets go of them.
    """
    alive = [(reference, graph) for reference in _made if (graph := reference()) is not None]
    _made[:] = [reference for reference, _ in alive]
    return [graph for _, graph in alive]


class CompiledGraph:
    """One of Dynamo's graphs, compiled.

    Args:
        module: Dynamo's graph.
        examples: the arguments of the call that it is compiled for.
        options: as given to ``torch.compile``.
        inductor: configuration of Inductor, beside ours.

    Attributes:
        remarks: what was found out outside of any pass, such as why the passes were not used.
        retraced: the graph as ATen operators; ``None`` when it is left to the inner backend as it is.
        stages: the graph after every pass; empty when it is left as it is.
        split: its static and residual parts.
        kept: the kept values.
        calls: how often it ran.
        grad: whether gradients are recorded.
    """

    def __init__(
        self, module: fx.GraphModule, examples: Sequence[Any], options: CompileOptions, inductor: dict[str, Any]
    ) -> None:
        self.name = _name(module)
        self.remarks: list[Remark] = []
        self.retraced: Retraced | None = None
        self.stages: list[Stage] = []
        self.split: Split | None = None
        self.kept: KeptValues | None = None
        self.varying: frozenset[str] = frozenset()
        self.calls = 0
        self.grad = torch.is_grad_enabled()
        self.capture_seconds = self.lowering_seconds = 0.0
        self._options = options
        self._inductor = inductor
        self._autocast = any_autocast_enabled()
        self._run = self._rewritten(module, examples) or self._as_it_is(module, examples)
        _made.append(weakref.ref(self))

    def __call__(self, *arguments: Any) -> Sequence[Any]:
        """Run on the arguments of Dynamo's graph."""
        self.calls += 1
        return self._run(*arguments)

    def report(self) -> Report:
        """What every pass did and declined and why, and what is kept; print it or ask its forms."""
        return Report(self.name, (record_of(self),), (), shortcomings(), versions())

    def __repr__(self) -> str:
        how = "left to the inner backend" if self.retraced is None else f"{len(self.stages) - 1} passes"
        return f"CompiledGraph({self.name}, {how}, {self.calls} calls)"

    # --- compilation ------------------------------------------------------------------------------------------------

    def _rewritten(self, module: fx.GraphModule, examples: Sequence[Any]) -> Lowered | None:
        try:
            with tracing(None):  # Dynamo's fake tensors are others than ours
                start = time.perf_counter()
                retraced = retrace(module, examples)
                problem = disagreement(module, retraced, examples) if self._options.verify else None
                if problem is not None:
                    raise CaptureError(f"the traced graph disagrees with Dynamo's: {problem}")
                self.capture_seconds = time.perf_counter() - start
                stages, parts = self._passes(retraced, examples)
            slots = {slot.name: slot for slot in retraced.slots}
            static = sorted({name for value in parts.program.values for name in value.slots})
            places = _Places([slots[n] for n in static], [slots[n] for n in parts.slots], retraced.positions)
            kept = KeptValues(parts.program, static, self._options.check)
            with self._converted():
                values = kept.get(places.static(examples))
            lowered_for = places.residual(examples, [_static_fake(value) for value in values], constant=_static_fake)
            _mark_sources(module, parts, retraced)
            retraced.sizes.hand_over()
        except Exception as error:  # whatever goes wrong in here, the inner backend still compiles the graph
            kind = "" if isinstance(error, TzwcError) else f"{type(error).__name__}: "
            self._declined("capture", "dynamo", f"the passes were not used: {kind}{error}")
            return None
        self.stages, self.split, self.kept, self.retraced = stages, parts, kept, retraced
        with self._converted():
            code = self._lower(parts.residual, lowered_for, self._options.tune)
        if code is not parts.residual:
            grad = self.grad and _separable(parts.residual)
            code = finished(code, parts.residual, grad, self._options.keep_buffers)
        return self._caller(module, code, parts.residual, kept, places)

    def _passes(self, retraced: Retraced, examples: Sequence[Any]) -> tuple[list[Stage], Split]:
        names = [slot.name for slot in retraced.slots]
        if self.grad:
            self.varying = frozenset(
                s.name for s in retraced.slots if s.position is not None and examples[s.position].requires_grad
            )
        settings = self._options.for_passes(grad=self.grad)
        static = frozenset(names) - self.varying
        stages = run_pipeline(retraced.module, self._options.passes, options=settings, static_slots=static)
        return [Stage.of(stage) for stage in stages], split(retraced.module, names, retraced.inputs)

    def _as_it_is(self, module: fx.GraphModule, examples: Sequence[Any]) -> Lowered:
        # Tensors of other classes reach the operators of the lowered graph, and ours takes plain ones.
        plain = all(is_plain(example) for example in examples if isinstance(example, Tensor))
        return self._lower(module, list(examples), self._options.tune if plain else "off")

    def _lower(self, module: fx.GraphModule, examples: Sequence[Any], tune: Tune) -> Lowered:
        """``module`` by the inner backend, within Dynamo's own tracing context, so that its guards are Dynamo's."""
        backend = self._options.backend
        start = time.perf_counter()
        try:
            settings = inductor_settings(tune, self.remarks)
            return compiled(module, examples, backend, {**settings, **self._inductor})
        except (RestartAnalysis, SkipFrame):
            raise  # Dynamo's own control flow
        except Exception as error:
            not_lowered(backend, error)
            self._declined("lowering", "backend", f"{backend!r} failed ({type(error).__name__}: {error}); runs eagerly")
            return module
        finally:
            self.lowering_seconds += time.perf_counter() - start

    def _declined(self, stage: str, rule: str, reason: str) -> None:
        self.remarks.append(Remark(stage, "declined", rule, reason))

    # --- the call ---------------------------------------------------------------------------------------------------

    def _caller(
        self, module: fx.GraphModule, code: Lowered, residual: fx.GraphModule, kept: KeptValues, places: _Places
    ) -> Lowered:
        proven = code is residual or any(map(is_mutating, residual.graph.nodes))

        def run(*arguments: Any) -> Sequence[Any]:
            nonlocal code, proven
            given = places.residual(arguments, kept.get(places.static(arguments)))
            if proven:
                return code(*given)
            try:
                results = code(*given)
            except Exception as error:  # after a write, a second run would write twice
                reason = f"{self._options.backend!r} failed when it ran ({type(error).__name__}: {error})"
                self._declined("lowering", "backend", f"{reason}; the graph runs eagerly")
                code = residual
                results = code(*given)
            proven = True
            return results

        def run_or_show(*arguments: Any) -> Sequence[Any]:
            if count_dispatch_modes():  # fake arguments, or somebody who wants to see every operator
                shown: Sequence[Any] = module(*arguments)
                return shown
            if not self._autocast:
                return run(*arguments)
            with self._converted():
                return run(*arguments)

        return run_or_show

    @contextmanager
    def _converted(self) -> Iterator[None]:
        """Without autocast: what it converts was converted when the graph was traced."""
        with DisableAutocast() if self._autocast else nullcontext():
            yield


class _Places:
    """Where the parts of a graph find their tensors among the arguments of Dynamo's graph.

    Args:
        static: slots of the static part.
        residual: slots of the residual part.
        inputs: positions of its inputs.
    """

    def __init__(self, static: Sequence[GraphSlot], residual: Sequence[GraphSlot], inputs: Sequence[int]) -> None:
        self._static = [(slot.position, slot.constant) for slot in static]
        self._residual = [(slot.position, slot.constant) for slot in residual]
        self._inputs = tuple(inputs)

    def static(self, arguments: Sequence[Any]) -> list[Any]:
        """Arguments of the static part."""
        return [constant if position is None else arguments[position] for position, constant in self._static]

    def residual(
        self, arguments: Sequence[Any], kept: Sequence[Tensor], constant: Callable[[Any], Any] = lambda tensor: tensor
    ) -> list[Any]:
        """Arguments of the residual part; ``constant`` is applied to what is not Dynamo's."""
        slots = [constant(fixed) if position is None else arguments[position] for position, fixed in self._residual]
        return [*slots, *kept, *(arguments[position] for position in self._inputs)]


def _static_fake(value: Tensor) -> Tensor:
    """``value`` for the compiler: its sizes are fixed."""
    context = TracingContext.try_get()
    mode = context.fake_mode if context is not None else None
    return value if mode is None else mode.from_tensor(value, static_shapes=True)


def _mark_sources(module: fx.GraphModule, parts: Split, retraced: Retraced) -> None:
    """Tell ahead-of-time compilation where the arguments come from, so that it can guard against aliases."""
    if "dynamo_compile_id" not in module.meta:
        return
    theirs = [n for n in module.graph.nodes if n.op == "placeholder"]
    positions: dict[str, int | None] = {slot.name: slot.position for slot in retraced.slots}
    positions.update(zip(retraced.inputs, retraced.positions, strict=True))
    for node in parts.residual.graph.nodes:
        if node.op == "placeholder":
            position = positions.get(node.name)
            given = None if position is None else theirs[position]
            node._dynamo_source = getattr(given, "_dynamo_source", None)
            if given is not None and "tensor_dict" in given.meta:
                node.meta["tensor_dict"] = given.meta["tensor_dict"]
    parts.residual.meta["dynamo_compile_id"] = module.meta["dynamo_compile_id"]
    parts.residual.__dict__["_param_name_to_source"] = {}


def _separable(residual: fx.GraphModule) -> bool:
    """Whether the code can have a graph of gradients apart from the caller's, and anything is gained by it.

    Not where a result may be a view of an argument, an argument is a number, or the graph cannot be run again.
    """
    graph = residual.graph
    placeholders = [n for n in graph.nodes if n.op == "placeholder"]
    if not all(isinstance(n.meta["val"], Tensor) for n in placeholders):
        return False
    if any(is_mutating(n) or is_random(n) for n in graph.nodes):
        return False
    groups = alias_groups(graph)
    output = next(n for n in reversed(graph.nodes) if n.op == "output")
    own = {groups[n] for n in placeholders}
    return not any(groups[result] in own for result in output.all_input_nodes)


def _name(module: fx.GraphModule) -> str:
    compile_id = module.meta.get("dynamo_compile_id")
    return f"graph {compile_id}" if compile_id is not None else "graph"
