"""Remarks: one structured record for everything that a pass did or declined to do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Literal

__all__ = ["Location", "Remark", "RemarkKind", "select"]

RemarkKind = Literal["applied", "declined", "note"]
"""``applied``: a rewrite was made; ``declined``: a candidate was left alone; ``note``: a fact worth knowing."""


@dataclass(frozen=True)
class Location:
    """Where in the user's program a node came from.

    Attributes:
        module_path: dotted path of the innermost ``nn.Module`` (``""`` for the root).
        file: source file, or ``None`` when unknown.
        line: line number in ``file``, or ``None``.
        code: the text of that line, or ``None``.
    """

    module_path: str = ""
    file: str | None = None
    line: int | None = None
    code: str | None = None

    def __str__(self) -> str:
        where = self.module_path or "(root)"
        return where if self.file is None else f"{where} at {self.file}:{self.line}"


@dataclass(frozen=True)
class Remark:
    """One rewrite made, one candidate declined, or one fact.

    Attributes:
        pass_name: the pass (or stage, such as ``capture``) that speaks.
        kind: see :data:`RemarkKind`.
        rule: the rule within the pass.
        reason: a full sentence for people.
        nodes: names of the graph nodes concerned, as they were before the rewrite.
        location: origin in the user's program.
        numbers: figures behind the reason (bytes, FLOPs, sizes), by name.
    """

    pass_name: str
    kind: RemarkKind
    rule: str
    reason: str
    nodes: tuple[str, ...] = ()
    location: Location = field(default_factory=Location)
    numbers: Mapping[str, float | int | str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The remark as JSON-safe plain data."""
        return asdict(self)

    def __str__(self) -> str:
        return f"[{self.pass_name}/{self.rule}] {self.kind}: {self.reason} ({self.location})"


def select(
    remarks: Iterable[Remark],
    *,
    pass_name: str | None = None,
    kind: RemarkKind | None = None,
    module: str | None = None,
    rule: str | None = None,
) -> tuple[Remark, ...]:
    """The remarks that fit everything given.

    Args:
        pass_name, rule: names; ``*`` stands for any characters.
        kind: see :data:`RemarkKind`.
        module: dotted path of a module, which stands for all inside of it as well; ``blocks.*.conv`` for several.
    """

    def inside(path: str, wanted: str) -> bool:
        return fnmatchcase(path, wanted) or fnmatchcase(path, f"{wanted}.*")

    return tuple(
        remark
        for remark in remarks
        if (pass_name is None or fnmatchcase(remark.pass_name, pass_name))
        and (kind is None or remark.kind == kind)
        and (module is None or inside(remark.location.module_path, module))
        and (rule is None or fnmatchcase(remark.rule, rule))
    )
