"""From a compiled graph to the plain record that reports and dumps are made from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tzwc.inspection.records import CacheStatistics, CaptureInfo, SpecialisationInfo
from tzwc.ir.values import describe, value_of
from tzwc.runtime.records import cached_info

if TYPE_CHECKING:
    from tzwc.dynamo.compiled_graph import CompiledGraph

__all__ = ["record_of"]


def record_of(graph: CompiledGraph) -> SpecialisationInfo:
    """The record of ``graph``."""
    mode = "gradients" if graph.grad else "inference"
    timings = {"lowering": graph.lowering_seconds}
    retraced, parts, kept = graph.retraced, graph.split, graph.kept
    if retraced is None or parts is None or kept is None:
        return SpecialisationInfo(
            name=mode, level="untouched", remarks=tuple(graph.remarks), timings=timings, calls=graph.calls
        )
    placeholders = {n.name: n for n in retraced.module.graph.nodes if n.op == "placeholder"}
    slots = {slot.name: slot.path for slot in retraced.slots}
    stats = kept.stats
    key = {name: describe(value_of(placeholders[name])) for name in retraced.inputs}
    return SpecialisationInfo(
        name=mode,
        key={**key, "gradients": "on" if graph.grad else "off"},
        level="whole graph",
        stages=tuple(graph.stages),
        remarks=tuple(graph.remarks),
        frontier=tuple(cached_info(value, slots) for value in parts.program.values),
        cache=CacheStatistics(stats.misses, stats.hits, max(0, stats.misses - 1)),
        capture=CaptureInfo("dynamo", graph.capture_seconds),
        timings=timings,
        calls=graph.calls,
        slots=slots,
        root=retraced.module,
        kept_values=kept.peek,
    )
