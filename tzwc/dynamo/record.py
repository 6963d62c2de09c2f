"""From a compiled graph to the plain record that reports and dumps are made from."""

from __future__ import annotations

from typing import Protocol

from tzwc.dynamo.retrace import Retraced
from tzwc.dynamo.static_caches import KeptValues
from tzwc.inspection import Stage
from tzwc.inspection.records import CacheStatistics, CaptureInfo, SpecialisationInfo
from tzwc.ir.remarks import Remark
from tzwc.ir.values import describe, value_of
from tzwc.partition.partitioner import Split
from tzwc.runtime.records import cached_info

__all__ = ["Recorded", "record_of"]


class Recorded(Protocol):
    """What a record is made from; :class:`tzwc.dynamo.compiled_graph.CompiledGraph` has it."""

    retraced: Retraced | None
    split: Split | None
    kept: KeptValues | None
    stages: list[Stage]
    remarks: list[Remark]
    grad: bool
    calls: int
    capture_seconds: float
    lowering_seconds: float


def record_of(graph: Recorded) -> SpecialisationInfo:
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
