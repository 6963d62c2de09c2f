"""Many similar sentences as a few: what differs only in numbers is said once, with the range of the numbers.

Twelve layers give twelve remarks; a reader wants one line that covers them all, and where they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tzwc.inspection.text.python_source import short_path
from tzwc.ir.remarks import Location, Remark, RemarkKind
from tzwc.util import formatting

__all__ = ["INDEX", "NUMBER", "RemarkGroup", "abbreviate", "group_remarks", "merge_similar"]

# A number that stands alone, or the one that torch.fx appends to a name (conv2d_7).
NUMBER = re.compile(r"(?<![\w.])\d+(?:\.\d+)?(?:e[+-]?\d+)?(?!\w)|(?<=[a-z0-9]_)\d+(?!\w)")
INDEX = re.compile(r"\d+")
_CODE = 60  # characters of a source line shown
_ORDER: dict[RemarkKind, int] = {"applied": 0, "declined": 1, "note": 2}


@dataclass(frozen=True)
class RemarkGroup:
    """Remarks of one pass and rule whose reasons differ in numbers only.

    Attributes:
        reason: the common sentence; numbers that differ are given as a range.
        remarks: the members, in the order in which they were made.
    """

    pass_name: str
    kind: RemarkKind
    rule: str
    reason: str
    remarks: tuple[Remark, ...]

    def headline(self) -> str:
        """``declined 12 × rule: reason``."""
        times = f"{len(self.remarks)} × " if len(self.remarks) > 1 else ""
        return f"{self.kind} {times}{self.rule}: {self.reason}"

    def places(self) -> list[str]:
        """One entry for each source line: the line, and the modules it was run for."""
        lines: dict[tuple[str | None, int | None], list[Location]] = {}
        for remark in self.remarks:
            where = remark.location
            if where != Location():
                lines.setdefault((where.file, where.line), []).append(where)
        found = []
        for (file, line), locations in lines.items():
            modules = list(dict.fromkeys(where.module_path or "(root)" for where in locations))
            paths = abbreviate([text for text, _ in merge_similar(modules, INDEX)], 4)
            code = f" | {_shorten(locations[0].code)}" if locations[0].code else ""
            found.append(f"{short_path(file)}:{line} in {paths}{code}" if file else f"in {paths}")
        return found

    def totals(self) -> str:
        """Sums of the figures that can be added up (bytes, seconds, FLOPs); ranges of the others."""
        parts = []
        names = dict.fromkeys(name for remark in self.remarks for name in remark.numbers)
        for name in names:
            values = [remark.numbers[name] for remark in self.remarks if name in remark.numbers]
            numbers = [value for value in values if isinstance(value, (int, float))]
            if len(numbers) < len(values):
                parts.append(f"{_words(name)} {abbreviate(list(dict.fromkeys(map(str, values))), 3)}")
            else:
                parts.append(f"{_words(name)} {_summary(name, numbers)}")
        return ", ".join(parts)


def group_remarks(remarks: Iterable[Remark]) -> list[RemarkGroup]:
    """Group by pass, kind, rule and sentence; rewrites first, then refusals, then notes, frequent ones first."""
    groups: dict[tuple[str, RemarkKind, str, str], list[Remark]] = {}
    for remark in remarks:
        template = NUMBER.sub("#", _reason(remark))
        groups.setdefault((remark.pass_name, remark.kind, remark.rule, template), []).append(remark)
    result = [
        RemarkGroup(name, kind, rule, merge_similar([_reason(r) for r in members], NUMBER)[0][0], tuple(members))
        for (name, kind, rule, _), members in groups.items()
    ]
    passes = list(dict.fromkeys(group.pass_name for group in result))
    return sorted(result, key=lambda g: (passes.index(g.pass_name), _ORDER[g.kind], -len(g.remarks)))


def merge_similar(texts: Sequence[str], varying: re.Pattern[str]) -> list[tuple[str, int]]:
    """Merge texts that differ only where ``varying`` matches; each result with the number of texts it stands for.

    ``blocks.0.conv, blocks.1.conv, blocks.2.conv`` gives ``blocks.0…2.conv``.
    """
    groups: dict[str, list[str]] = {}
    for text in texts:
        groups.setdefault(varying.sub("#", text), []).append(text)
    merged = []
    for members in groups.values():
        columns = zip(*(varying.findall(text) for text in members), strict=True)
        ranges = iter([_range(column) for column in columns])
        merged.append((varying.sub(lambda _, r=ranges: next(r), members[0]), len(members)))  # type: ignore[misc]
    return merged


def abbreviate(items: Sequence[str], limit: int) -> str:
    """``a, b, c and 9 more``."""
    if len(items) <= limit:
        return ", ".join(items)
    return f"{', '.join(items[:limit])} and {len(items) - limit:,} more"


def _reason(remark: Remark) -> str:
    """The reason without the names that differ from one place to the next: those are listed beside it."""
    names = [*remark.nodes, *([remark.location.module_path] if remark.location.module_path else [])]
    text = " ".join(remark.reason.split())
    for name in sorted(names, key=len, reverse=True):
        text = re.sub(rf"(?<![\w.]){re.escape(name)}(?![\w])", "…", text)
    return text


def _shorten(code: str) -> str:
    return code if len(code) <= _CODE else f"{code[: _CODE - 1]}…"


def _range(values: Sequence[str]) -> str:
    distinct = sorted(set(values), key=float)
    return distinct[0] if len(distinct) == 1 else f"{distinct[0]}…{distinct[-1]}"


def _words(name: str) -> str:
    return name.replace("_", " ")


def _summary(name: str, values: Sequence[float]) -> str:
    last = name.rpartition("_")[2] if not name.endswith("_saved") else name.split("_")[-2]
    units = {"bytes": formatting.size, "nbytes": formatting.size, "seconds": formatting.seconds}
    unit = units.get(last) or (formatting.flops if last == "flops" else None)
    if unit is not None:
        total = unit(sum(values))
        return f"{total} in total" if len(values) > 1 else total
    low, high = min(values), max(values)
    return f"{low:,.6g}" if low == high else f"{low:,.6g}…{high:,.6g}"
