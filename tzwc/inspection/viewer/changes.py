"""What a pass did to each node, by name: removed, added, replaced, altered, newly kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tzwc.inspection.viewer.records import FIELDS, Records

__all__ = ["Changes", "compare"]

# What makes a node another node: its call, its value and where it comes from. When a value is evaluated is told apart.
_SAME = [FIELDS.index(name) for name in ("op", "target", "call", "value", "made_by", "operands")]
_KEPT, _TARGET = FIELDS.index("kept"), FIELDS.index("target")


@dataclass(frozen=True)
class Changes:
    """The difference between two stages.

    Attributes:
        removed: names that are gone, each with the name of the node whose value is used in its place (``""`` where
            nothing is, as for a part of a larger expression that was replaced as a whole).
        added: names that are new, each with the removed name that it stands for (or ``""``).
        altered: names whose call or operands differ.
        kept: names whose values are kept between calls from now on.
    """

    removed: Mapping[str, str]
    added: Mapping[str, str]
    altered: tuple[str, ...]
    kept: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """The difference as plain data."""
        return {
            "removed": dict(self.removed),
            "added": dict(self.added),
            "altered": list(self.altered),
            "kept": list(self.kept),
        }


def compare(records: Records, before: Sequence[int], after: Sequence[int]) -> Changes:
    """The difference between two stages, given as record numbers in graph order."""
    old = {records.name(number): number for number in before}
    new = {records.name(number): number for number in after}
    altered = [
        name
        for name, number in new.items()
        if name in old and old[name] != number and _identity(records, old[name]) != _identity(records, number)
    ]
    kept = [
        name
        for name, number in new.items()
        if records.rows[number][_KEPT] and not (name in old and records.rows[old[name]][_KEPT])
    ]
    removed = _replacements(records, old, new)
    stands_for: dict[str, str] = {}
    for name, replacement in removed.items():
        if replacement not in old:
            stands_for.setdefault(replacement, name)
    added = {name: stands_for.get(name, "") for name in new if name not in old}
    return Changes(removed, added, tuple(altered), tuple(kept))


def _identity(records: Records, number: int) -> list[Any]:
    return [records.rows[number][field] for field in _SAME]


def _replacements(records: Records, old: Mapping[str, int], new: Mapping[str, int]) -> dict[str, str]:
    """What stands in place of each removed node, as its users tell: the operand that they read there now."""
    readers: dict[str, list[tuple[str, int]]] = {}
    for name, number in old.items():
        for position, operand in enumerate(records.operands(number)):
            readers.setdefault(operand, []).append((name, position))
    found: dict[str, str] = {}
    for name in reversed(list(old)):  # users come after what they use, so their own replacement is known first
        if name in new:
            continue
        found[name] = ""
        for reader, position in readers.get(name, ()):
            heir = reader if reader in new else found.get(reader, "")
            # What stands in place of a reader tells something about its operands only if it is the same operator.
            if heir not in new or records.rows[new[heir]][_TARGET] != records.rows[old[reader]][_TARGET]:
                continue
            before, after = records.operands(old[reader]), records.operands(new[heir])
            if len(before) == len(after) and after[position] != name:
                found[name] = after[position]
                break
    return {name: found[name] for name in old if name not in new}
