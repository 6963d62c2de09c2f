"""The report on a compiled model: what every pass changed, what it declined and why, what it cost and saved."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from functools import partial
from typing import Any

from tzwc.inspection.records import SpecialisationInfo
from tzwc.inspection.report.document import Block, Presented
from tzwc.inspection.report.sections import operations, report_blocks, specialisation_blocks
from tzwc.ir.remarks import Remark, RemarkKind, select
from tzwc.ir.snapshot import StageRecord

__all__ = ["Report", "json_safe"]


@dataclass(frozen=True)
class Report(Presented):
    """A report, made from plain data; print it, show it with rich, or take it as Markdown or as a dictionary.

    The printed forms are abbreviated, always with a count of what they leave out; :meth:`to_dict` is complete.

    Attributes:
        model: name of the model, usually its class.
        specialisations: what was compiled, in order of first use.
        remarks: what concerns the model as a whole.
        notes: what the user could do to gain more, whatever the specialisation.
        versions: versions and machine facts that the results depend on, by name.
        level: how the newest call ran, from ``"whole graph"`` to ``"untouched"``; empty when there was none.
    """

    model: str
    specialisations: tuple[SpecialisationInfo, ...] = ()
    remarks: tuple[Remark, ...] = ()
    notes: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    level: str = ""

    def blocks(self) -> list[Block]:
        """The report as blocks of :mod:`tzwc.inspection.report.document`."""
        blocks = report_blocks(
            self.model, len(self.specialisations), self.remarks, self.notes, self.versions, self.level
        )
        for info in self.specialisations:
            blocks += specialisation_blocks(info)
        return blocks

    @property
    def all_remarks(self) -> tuple[Remark, ...]:
        """Every remark: on the model as a whole, then specialisation by specialisation."""
        return self.remarks + tuple(remark for info in self.specialisations for remark in info.all_remarks)

    def filter(
        self,
        *,
        pass_name: str | None = None,
        kind: RemarkKind | None = None,
        module: str | None = None,
        rule: str | None = None,
    ) -> Report:
        """This report with those remarks only that fit everything given; see :func:`tzwc.ir.remarks.select`."""
        chosen = partial(select, pass_name=pass_name, kind=kind, module=module, rule=rule)
        infos = tuple(
            replace(
                info,
                remarks=chosen(info.remarks),
                stages=tuple(replace(stage, remarks=chosen(stage.remarks)) for stage in info.stages),
            )
            for info in self.specialisations
        )
        return replace(self, remarks=chosen(self.remarks), specialisations=infos)

    def to_dict(self) -> dict[str, Any]:
        """Everything that the report knows, as JSON-safe data; graphs are given by their counts only."""
        result: dict[str, Any] = json_safe(self)
        return result


_LIVE = frozenset({"root", "kept_values"})  # fields that hold parts of the model rather than facts about it


def json_safe(value: object) -> Any:
    """Records, mappings and sequences as plain data that ``json`` writes and every JSON reader accepts.

    Stages become counts and remarks, since graphs have a form of their own (:func:`tzwc.inspection.stage_to_dict`).
    Infinities and NaN, which JSON lacks, become text.
    """
    if isinstance(value, StageRecord):
        return {
            "name": value.name,
            "seconds": json_safe(value.seconds),
            "operations": operations(value),
            "remarks": json_safe(value.remarks),
        }
    if is_dataclass(value) and not isinstance(value, type):
        return {item.name: json_safe(getattr(value, item.name)) for item in fields(value) if item.name not in _LIVE}
    if isinstance(value, Mapping):
        return {str(key): json_safe(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [json_safe(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)
