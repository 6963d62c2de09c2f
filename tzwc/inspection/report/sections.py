"""The sections of a report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from tzwc.inspection.records import CachedValueInfo, MeasuredGroup, SpecialisationInfo
from tzwc.inspection.report.document import Block, Bullets, Facts, Heading, Paragraph, Table
from tzwc.inspection.report.grouping import INDEX, NUMBER, abbreviate, group_remarks, merge_similar
from tzwc.inspection.text.python_source import short_path
from tzwc.ir.remarks import Remark
from tzwc.ir.snapshot import StageRecord
from tzwc.util.formatting import count, flops, seconds, size

__all__ = ["operations", "report_blocks", "specialisation_blocks"]

_GROUPS = 8  # remark groups shown for each pass
_PLACES = 3  # source lines shown for each group
_VALUES = 12  # rows of cached values shown
_SLOTS = 6
_ASSUMPTIONS = 5


def operations(stage: StageRecord) -> int:
    """Number of calls in the graph; placeholders, attributes and the output are not work."""
    return sum(node.op.startswith("call") for node in stage.graph.nodes)


def report_blocks(
    model: str,
    specialisations: int,
    remarks: Sequence[Remark],
    notes: Sequence[str],
    versions: Mapping[str, str],
    level: str = "",
) -> list[Block]:
    """What concerns the model as a whole."""
    blocks: list[Block] = [Heading(f"tzwc report: {model}", 1)]
    nothing = "nothing compiled" if level else "nothing compiled yet: call it once"
    compiled = count(specialisations, "specialisation") if specialisations else nothing
    setting = "".join(f", {name} {version}" for name, version in versions.items())
    runs = f"the last call ran as: {level}; " if level else ""
    blocks.append(Paragraph(f"{runs}{compiled}{setting}"))
    blocks += _remark_blocks(remarks, 2)
    return blocks + _note_blocks(notes, 2)


def specialisation_blocks(info: SpecialisationInfo) -> list[Block]:
    """What concerns one specialisation: facts, stages, passes, cache, advice."""
    blocks: list[Block] = [Heading(info.name, 2), Facts(tuple(_facts(info)))]
    if info.stages:
        blocks.append(_stage_table(info.stages))
    blocks += _remark_blocks(info.all_remarks, 3)
    if info.frontier:
        blocks += _cache_blocks(info.frontier)
    for title, groups in (("operators", info.measured_operators), ("modules", info.measured_modules)):
        if groups:
            blocks += _measured_blocks(title, groups)
    return blocks + _note_blocks(info.notes, 3)


def _measured_blocks(title: str, groups: Sequence[MeasuredGroup]) -> list[Block]:
    total = sum(group.seconds for group in groups) or 1.0
    header = (title, "calls", "measured", "share", "estimated", "bytes")
    rows = tuple(
        (
            group.name,
            f"{group.calls:,}",
            seconds(group.seconds),
            f"{group.seconds / total:.0%}",
            seconds(group.estimated),
            size(group.nbytes),
        )
        for group in groups[:_VALUES]
    )
    rest = groups[_VALUES:]
    blocks: list[Block] = [
        Heading(f"measured by {title}, one at a time", 3),
        Table(header, rows, frozenset(header[1:])),
    ]
    if rest:
        left = seconds(sum(group.seconds for group in rest))
        blocks.append(Paragraph(f"and {count(len(rest), 'more group')} with {left} in total"))
    return blocks


def _facts(info: SpecialisationInfo) -> Iterator[tuple[str, str]]:
    yield "runs as", f"{info.level}, {count(info.calls, 'call')} so far"
    if info.key:
        yield "made for", ", ".join(f"{name} {value}" for name, value in info.key.items())
    if info.capture is not None:
        took = f" in {seconds(info.capture.seconds)}" if info.capture.seconds else ""
        yield "captured", f"by {info.capture.method}{took}"
        if info.capture.assumptions:
            shown = "; ".join(info.capture.assumptions[:_ASSUMPTIONS])
            rest = len(info.capture.assumptions) - _ASSUMPTIONS
            more = f"; and {rest:,} more" if rest > 0 else ""
            yield "checked", f"{count(len(info.capture.assumptions), 'assumption')} at each call: {shown}{more}"
    if info.stages:
        first, last = operations(info.stages[0]), operations(info.stages[-1])
        yield "operations", f"{first:,} captured, {last:,} after the last pass"
    if info.timings:
        yield "time", ", ".join(f"{name} {seconds(value)}" for name, value in info.timings.items())
    yield from _cache_facts(info)


def _cache_facts(info: SpecialisationInfo) -> Iterator[tuple[str, str]]:
    if not info.frontier:
        return
    kept = f"{count(len(info.frontier), 'value')}, {size(sum(value.nbytes for value in info.frontier))}"
    check = info.cache.check_seconds
    yield "cached", kept + (f"; checking that they are fresh takes {seconds(check)}" if check is not None else "")
    stale = f" ({info.cache.invalidations:,} because a parameter or buffer had changed)"
    yield (
        "static part",
        f"evaluated {count(info.cache.evaluations, 'time')}"
        f"{stale if info.cache.invalidations else ''}, reused {count(info.cache.reuses, 'time')}",
    )
    avoided = []
    for unit, values in (
        (seconds, [v.seconds_saved for v in info.frontier if v.seconds_saved is not None]),
        (flops, [v.flops_saved for v in info.frontier if v.flops_saved is not None]),
    ):
        if values:
            total = sum(values)
            so_far = f", {unit(total * info.cache.reuses)} so far" if info.cache.reuses else ""
            avoided.append(f"{unit(total)} a call{so_far}")
    if avoided:
        yield "avoided", f"an estimated {'; '.join(avoided)}"


def _stage_table(stages: Sequence[StageRecord]) -> Table:
    rows = []
    before = None
    for stage in stages:
        after = operations(stage)
        change = "" if before is None else f"{after - before:+,}" if after != before else "="
        kinds = [remark.kind for remark in stage.remarks]
        rows.append(
            (
                stage.name,
                f"{after:,}",
                change,
                str(kinds.count("applied") or ""),
                str(kinds.count("declined") or ""),
                seconds(stage.seconds) if stage.seconds else "",
            )
        )
        before = after
    header = ("stage", "operations", "change", "applied", "declined", "time")
    return Table(header, tuple(rows), frozenset(header[1:]))


def _remark_blocks(remarks: Sequence[Remark], level: int) -> list[Block]:
    by_pass: dict[str, list[Remark]] = {}
    for remark in remarks:
        by_pass.setdefault(remark.pass_name, []).append(remark)
    blocks: list[Block] = []
    for name, said in by_pass.items():
        groups = group_remarks(said)
        items = []
        for group in groups[:_GROUPS]:
            places = group.places()
            details = places[:_PLACES]
            if len(places) > _PLACES:
                details.append(f"and at {count(len(places) - _PLACES, 'more source line')}")
            totals = group.totals()
            items.append((group.headline(), (*details, *([totals] if totals else []))))
        if len(groups) > _GROUPS:
            rest = sum(len(group.remarks) for group in groups[_GROUPS:])
            items.append((f"and {count(rest, 'more remark')} for {count(len(groups) - _GROUPS, 'other reason')}", ()))
        blocks += [Heading(name, level), Bullets(tuple(items))]
    return blocks


def _cache_blocks(frontier: Sequence[CachedValueInfo]) -> list[Block]:
    # Values made by the same line for sibling modules share a row.
    places: dict[tuple[str, str | None, int | None], list[CachedValueInfo]] = {}
    for value in frontier:
        where = value.location
        places.setdefault((INDEX.sub("#", where.module_path), where.file, where.line), []).append(value)
    # The most valuable first; without estimates, the largest.
    groups = sorted(places.values(), key=lambda group: (-(_saved(group) or 0.0), -_bytes(group)))
    header = ("value", "type", "size", "saves", "where")
    blocks: list[Block] = [
        Heading("cached values", 3),
        Table(header, tuple(_cache_row(group) for group in groups[:_VALUES]), frozenset({"size", "saves"})),
    ]
    rest = [value for group in groups[_VALUES:] for value in group]
    if rest:
        blocks.append(Paragraph(f"and {count(len(rest), 'more value')} of {size(_bytes(rest))} in total"))
    slots = list(dict.fromkeys(slot for value in frontier for slot in value.slots))
    if slots:
        shown = abbreviate([text for text, _ in merge_similar(slots, INDEX)], _SLOTS)
        blocks.append(
            Paragraph(f"They are computed from {count(len(slots), 'slot')} and renewed when one changes: {shown}.")
        )
    return blocks


def _cache_row(group: Sequence[CachedValueInfo]) -> tuple[str, ...]:
    where = group[0].location
    [(path, _)] = merge_similar([value.location.module_path for value in group], INDEX)
    place = (path or "(root)") + (f", {short_path(where.file)}:{where.line}" if where.file else "")
    name = (
        group[0].node if len(group) == 1 else f"{len(group)} × {merge_similar([v.node for v in group], NUMBER)[0][0]}"
    )
    types = abbreviate([text for text, _ in merge_similar([value.type for value in group], NUMBER)], 1)
    saved = _saved(group)
    return name, types, size(_bytes(group)), "" if saved is None else seconds(saved), place


def _bytes(values: Sequence[CachedValueInfo]) -> int:
    return sum(value.nbytes for value in values)


def _saved(values: Sequence[CachedValueInfo]) -> float | None:
    known = [value.seconds_saved for value in values if value.seconds_saved is not None]
    return sum(known) if known else None


def _note_blocks(notes: Sequence[str], level: int) -> list[Block]:
    if not notes:
        return []
    return [Heading("to gain more", level), Bullets(tuple((note, ()) for note in notes))]
