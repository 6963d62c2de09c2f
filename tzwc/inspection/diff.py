"""What a pass changed, as text: operators gained and lost, nodes removed, added and altered."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from torch import fx

from tzwc.inspection.formats.call_targets import short_name
from tzwc.inspection.text.expressions import Scope
from tzwc.inspection.text.python_source import origin
from tzwc.ir.graph import location
from tzwc.ir.snapshot import StageRecord
from tzwc.ir.values import describe, value_of
from tzwc.util.formatting import count

__all__ = ["diff"]


def diff(stage_a: StageRecord | fx.Graph, stage_b: StageRecord | fx.Graph, *, limit: int = 40) -> str:
    """Describe how to get from one stage to another.

    Nodes are matched by name, which passes keep for what they leave alone. A node that kept its name but not its call
    is shown before (``-``) and after (``+``); so are nodes whose operands changed because others were replaced.

    Args:
        limit: nodes shown in each section; a count stands for the rest.
    """
    a, b = _graph(stage_a), _graph(stage_b)
    names = _name(stage_a, "before"), _name(stage_b, "after")
    before, after = _lines(a), _lines(b)
    removed = [node for node in a.nodes if node.name not in after]
    added = [node for node in b.nodes if node.name not in before]
    altered = [node for node in b.nodes if node.name in before and before[node.name] != after[node.name]]
    calls = sum(n.op.startswith("call") for n in a.nodes), sum(n.op.startswith("call") for n in b.nodes)
    lines = [f"{names[0]} → {names[1]}: {calls[0]:,} → {count(calls[1], 'operation')}"]
    if not (removed or added or altered):
        return f"{lines[0]}, no difference\n"
    lines += _operator_counts(a, b)
    lines += _section("removed", removed, limit, lambda node: [f"- {before[node.name]}"])
    lines += _section("added", added, limit, lambda node: [f"+ {after[node.name]}"])
    lines += _section("changed", altered, limit, lambda node: [f"- {before[node.name]}", f"+ {after[node.name]}"])
    return "\n".join(lines) + "\n"


def _graph(stage: StageRecord | fx.Graph) -> fx.Graph:
    return stage.graph if isinstance(stage, StageRecord) else stage


def _name(stage: StageRecord | fx.Graph, otherwise: str) -> str:
    return stage.name if isinstance(stage, StageRecord) else otherwise


def _lines(graph: fx.Graph) -> dict[str, str]:
    """One line of Python for every node, by name."""
    scope = Scope()

    def reference(value: object) -> str:
        return value.name if isinstance(value, fx.Node) else str(value)

    lines = {}
    for node in graph.nodes:
        if node.op.startswith("call") and node.op != "call_module":
            text = f"{node.name} = {scope.call(node, reference).one_line()}"
        elif node.op == "output":
            text = f"return {scope.value(node.args[0], reference)}"
        else:
            text = f"{node.name}: {node.op} {node.target}"
        kind = describe(value_of(node))
        lines[node.name] = f"{text}  # {kind}" if kind else text
    return lines


def _operator_counts(a: fx.Graph, b: fx.Graph) -> Iterator[str]:
    before, after = (Counter(short_name(n.target) for n in g.nodes if n.op.startswith("call")) for g in (a, b))
    changed = sorted(name for name in before | after if before[name] != after[name])
    if not changed:
        return
    width = max(len(name) for name in changed)
    yield ""
    yield "operators"
    # What went first, then what came.
    for name in sorted(changed, key=lambda name: (after[name] - before[name] > 0, name)):
        change = after[name] - before[name]
        yield f"  {name.ljust(width)}  {before[name]:>5} → {after[name]:<5} {change:+}"


def _section(title: str, nodes: Sequence[fx.Node], limit: int, show: Callable[[fx.Node], list[str]]) -> Iterator[str]:
    if not nodes:
        return
    yield ""
    yield f"{title}: {count(len(nodes), 'node')}"
    where = ""
    for node in nodes[:limit]:
        here = origin(location(node))
        made_by = node.meta.get("tzwc_made_by")
        if here != where:
            yield f"  {here}"
            where = here
        shown = show(node)
        yield from (f"    {line}" for line in shown[:-1])
        yield f"    {shown[-1]}" + (f", by {made_by}" if made_by else "")
    if len(nodes) > limit:
        yield f"    and {len(nodes) - limit:,} more"
