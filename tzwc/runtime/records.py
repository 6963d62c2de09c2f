"""From a running specialisation to the plain records that reports and dumps are made from."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence

import torch

from tzwc.inspection.records import CachedValueInfo, CacheStatistics, CaptureInfo, SpecialisationInfo
from tzwc.ir.graph import location
from tzwc.ir.values import describe, value_of
from tzwc.partition.min_cut import CachedValue
from tzwc.runtime.specialisation import Specialisation

__all__ = ["cached_info", "specialisation_infos", "versions"]


def specialisation_infos(specialisations: Sequence[Specialisation]) -> tuple[SpecialisationInfo, ...]:
    """One record for each specialisation, with names that are unique within the model."""
    infos: list[SpecialisationInfo] = []
    for index, specialisation in enumerate(specialisations):
        mode = "gradients" if specialisation.grad else "inference"
        infos.append(_info(f"{index:02d}-{mode}", specialisation))
    return tuple(infos)


def versions() -> Mapping[str, str]:
    """What the results of a report depend on."""
    return {
        "torch": torch.__version__,
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
    }


def _info(name: str, specialisation: Specialisation) -> SpecialisationInfo:
    captured = specialisation.captured
    placeholders = {n.name: n for n in captured.module.graph.nodes if n.op == "placeholder"}
    slots = {slot.name: slot.path for slot in captured.slots}
    stats = specialisation.cache.stats
    key = {n: describe(value_of(placeholders[n])) for n in captured.inputs}
    key["gradients"] = "on" if specialisation.grad else "off"
    return SpecialisationInfo(
        name=name,
        key=key,
        level=specialisation.level,
        stages=tuple(specialisation.stages),
        remarks=tuple(specialisation.remarks),
        frontier=tuple(cached_info(value, slots) for value in specialisation.split.program.values),
        cache=CacheStatistics(evaluations=stats.misses, reuses=stats.hits, invalidations=max(0, stats.misses - 1)),
        capture=CaptureInfo(
            "partial evaluation", specialisation.capture_seconds, tuple(map(str, captured.assumptions.entries))
        ),
        timings={"lowering": specialisation.code.seconds},
        calls=specialisation.calls,
        slots=slots,
        notes=_notes(specialisation),
        root=captured.module,
        kept_values=specialisation.cache.peek,
    )


def cached_info(value: CachedValue, slots: Mapping[str, str]) -> CachedValueInfo:
    """The record of a kept value; ``slots`` gives dotted names by placeholder name."""
    return CachedValueInfo(
        node=value.node.name,
        type=describe(value_of(value.node)),
        nbytes=value.bytes,
        seconds_saved=value.seconds,
        flops_saved=value.flops,
        reason=value.reason,
        slots=tuple(sorted(slots[name] for name in value.slots)),
        location=location(value.node),
    )


def _notes(specialisation: Specialisation) -> tuple[str, ...]:
    if specialisation.varying:
        return (
            f"{len(specialisation.varying)} parameters receive gradients, so what follows from them is evaluated at "
            "every call; call under torch.no_grad() or torch.inference_mode() to keep it between calls.",
        )
    return ()
