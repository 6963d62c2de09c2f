"""Everything that the page shows, as plain data that ``json`` writes."""

from __future__ import annotations

from typing import Any

from tzwc.inspection.records import SpecialisationInfo
from tzwc.inspection.report.report import Report, json_safe
from tzwc.inspection.text.python_source import short_path
from tzwc.inspection.viewer.candidates import choices
from tzwc.inspection.viewer.changes import compare
from tzwc.inspection.viewer.modules import ModuleTree
from tzwc.inspection.viewer.pictures import pictures
from tzwc.inspection.viewer.records import FIELDS, TEXT, Records
from tzwc.ir.remarks import Remark

__all__ = ["page_data"]


def page_data(report: Report) -> dict[str, Any]:
    """The content of the page on a model."""
    return {
        "model": report.model,
        "versions": dict(report.versions),
        "notes": list(report.notes),
        "remarks": [_remark(remark, "") for remark in report.remarks],
        "fields": list(FIELDS),
        "texts": list(TEXT),
        "specialisations": [_specialisation(info) for info in report.specialisations],
    }


def _specialisation(info: SpecialisationInfo) -> dict[str, Any]:
    records = Records(info.slots, ModuleTree.of(stage.graph for stage in info.stages))
    stages: list[dict[str, Any]] = []
    numbers: list[int] = []
    for stage in info.stages:
        before, numbers = numbers, records.add(stage)
        changes = compare(records, before, numbers) if stages else None
        stages.append(
            {
                "name": stage.name,
                "seconds": json_safe(stage.seconds),
                "records": numbers,
                "operations": sum(node.op.startswith("call") for node in stage.graph.nodes),
                "changes": None if changes is None else changes.to_dict(),
            }
        )
    spoken = [(remark, "") for remark in info.remarks]
    spoken += [(remark, stage.name) for stage in info.stages for remark in stage.remarks]
    return {
        "name": info.name,
        "key": dict(info.key),
        "level": info.level,
        "calls": info.calls,
        "cache": json_safe(info.cache),
        "capture": None if info.capture is None else json_safe(info.capture),
        "timings": json_safe(info.timings),
        "notes": list(info.notes),
        "strings": records.strings,
        "records": records.rows,
        "modules": records.modules.to_dict(),
        "stages": stages,
        "remarks": [_remark(remark, stage) for remark, stage in spoken],
        "choices": choices([remark for remark, _ in spoken]),
        "frontier": json_safe(info.frontier),
        "pictures": json_safe(pictures(info.frontier, info.kept_values() if info.kept_values else ())),
    }


def _remark(remark: Remark, stage: str) -> dict[str, Any]:
    where = remark.location
    return {
        "stage": stage,
        "pass": remark.pass_name,
        "kind": remark.kind,
        "rule": remark.rule,
        "reason": remark.reason,
        "nodes": list(remark.nodes),
        "module": where.module_path,
        "file": "" if where.file is None else short_path(where.file),
        "line": where.line,
        "code": where.code or "",
        "numbers": json_safe(remark.numbers),
    }
