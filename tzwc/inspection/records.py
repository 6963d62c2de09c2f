"""Plain records that describe a compiled model: what reports and dumps are made from.

The compiler fills them in; everything in ``tzwc.inspection`` only reads them. Durations are seconds of wall time, sizes
are bytes, work is floating-point operations (a multiplication and an addition count as two).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor, nn

from tzwc.ir.remarks import Location, Remark
from tzwc.ir.snapshot import StageRecord

__all__ = ["CacheStatistics", "CachedValueInfo", "CaptureInfo", "MeasuredGroup", "SpecialisationInfo"]


@dataclass(frozen=True)
class CaptureInfo:
    """How the graph was obtained.

    Attributes:
        method: ``"dispatch"``, ``"export"``, ``"dynamo"``, or ``"none"`` when the model was not captured.
        seconds: wall time of the capture.
        assumptions: facts read from the model while tracing that are checked again at later calls, one sentence each.
    """

    method: str
    seconds: float = 0.0
    assumptions: tuple[str, ...] = ()


@dataclass(frozen=True)
class CachedValueInfo:
    """One value at the border between the static and the residual part: computed once, read at every call.

    Attributes:
        node: name of the graph node in the last stage.
        type: dtype and shape, such as ``"f32[64, 1, 783]"``.
        nbytes: memory that the value keeps.
        seconds_saved: estimated time that one reuse avoids, or ``None`` when there is no estimate.
        flops_saved: estimated work that one reuse avoids, or ``None``.
        reason: why this value, and not one before or after it, is kept.
        slots: dotted names of the parameters and buffers it was computed from; a change to any of them renews it.
        location: where in the user's program the value is computed.
    """

    node: str
    type: str
    nbytes: int
    seconds_saved: float | None = None
    flops_saved: float | None = None
    reason: str = ""
    slots: tuple[str, ...] = ()
    location: Location = field(default_factory=Location)


@dataclass(frozen=True)
class CacheStatistics:
    """What the cache of one specialisation has done so far.

    Attributes:
        evaluations: how often the static part was evaluated.
        reuses: how often its values were read without an evaluation.
        invalidations: evaluations that were needed because a parameter or buffer had changed.
        check_seconds: time of the last freshness check, or ``None`` when none was made.
    """

    evaluations: int = 0
    reuses: int = 0
    invalidations: int = 0
    check_seconds: float | None = None


@dataclass(frozen=True)
class MeasuredGroup:
    """Operators of one kind or one module in the residual graph.

    Attributes:
        name: what they have in common: the rule that made them, an operator, a module path.
        calls: how many there are.
        seconds: measured time of one run of all of them.
        estimated: the cost model's estimate of the same.
        nbytes: size of their results.
    """

    name: str
    calls: int
    seconds: float
    estimated: float
    nbytes: int


@dataclass(frozen=True)
class SpecialisationInfo:
    """One graph of the model: made for one class of input shapes, one gradient mode, one set of training flags.

    Attributes:
        name: short and unique within the model; names the folder of a dump (``"inference-f32-cpu"``).
        key: what the specialisation was made for, by name (``{"grad": "off", "x": "f32[s0, 3, 32, 32]"}``).
        level: how it runs now, the fall-back level in words (``"compiled"``, ``"graph, interpreted"``,
            ``"original module"``).
        stages: the graph after every pass, the captured graph first; empty when the model was not captured.
        remarks: what was said outside of the passes (capture, cache, lowering), such as why a model was not captured.
        frontier: the cached values.
        cache: what the cache did.
        capture: how the graph was obtained.
        timings: seconds by step, in order, for steps that are not passes (``lower``, ``first call``).
        calls: how often this specialisation ran.
        slots: dotted parameter or buffer name by placeholder name; the other placeholders are inputs.
        notes: what the user could do to gain more, a sentence each.
        measured_operators, measured_modules: where the time of the residual graph goes, where that was asked for.
        root: holds what the ``get_attr`` nodes of the stages refer to (submodules of higher-order operators,
            constants); may be ``None`` when no stage has such nodes.
        kept_values: gives the tensors behind ``frontier`` in its order, or none when nothing has been evaluated. A
            function, so that a report holds no tensors.
    """

    name: str
    key: Mapping[str, str] = field(default_factory=dict)
    level: str = "compiled"
    stages: tuple[StageRecord, ...] = ()
    remarks: tuple[Remark, ...] = ()
    frontier: tuple[CachedValueInfo, ...] = ()
    cache: CacheStatistics = field(default_factory=CacheStatistics)
    capture: CaptureInfo | None = None
    timings: Mapping[str, float] = field(default_factory=dict)
    calls: int = 0
    slots: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    measured_operators: tuple[MeasuredGroup, ...] = ()
    measured_modules: tuple[MeasuredGroup, ...] = ()
    root: nn.Module | None = None
    kept_values: Callable[[], Sequence[Tensor]] | None = field(default=None, repr=False, compare=False)

    @property
    def all_remarks(self) -> tuple[Remark, ...]:
        """The remarks made outside of passes, then those of every stage in order."""
        return self.remarks + tuple(remark for stage in self.stages for remark in stage.remarks)
