"""A graph as a drawing in SVG: layers from operands to results, drawn without Graphviz.

Layers are longest paths from the placeholders; within a layer, nodes stand below the mean place of their operands
(the barycentre heuristic of Sugiyama's method). Good for tens to hundreds of nodes; for thousands, use the page that
``fast.dump`` writes.
"""

from __future__ import annotations

from collections.abc import Mapping
from xml.sax.saxutils import escape, quoteattr

from torch import fx

from tzwc.inspection.formats.call_targets import short_name
from tzwc.inspection.formats.networkx_graph import uses
from tzwc.inspection.text.python_source import origin
from tzwc.ir.graph import location
from tzwc.ir.snapshot import StageRecord
from tzwc.ir.values import describe, value_of

__all__ = ["to_svg"]

_WIDTH, _HEIGHT, _GAP_X, _GAP_Y, _MARGIN = 170, 44, 18, 40, 20
_CHARACTERS = 28  # that fit into a box
_SWEEPS = 4
_STATIC, _DYNAMIC, _END, _MADE = "#cfe8cf", "#ffffff", "#e8e8e8", "#c05000"


def to_svg(stage: StageRecord | fx.Graph) -> str:
    """The graph as SVG text; the tooltip of a node gives its origin."""
    graph = stage.graph if isinstance(stage, StageRecord) else stage
    slots = stage.slots if isinstance(stage, StageRecord) else {}
    layers = _layers(graph)
    place = _places(layers)
    width = max((x for x, _ in place.values()), default=0) + _WIDTH + _MARGIN
    height = max((y for _, y in place.values()), default=0) + _HEIGHT + _MARGIN
    title = stage.name if isinstance(stage, StageRecord) else "graph"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {width:.0f} {height:.0f}" font-family="Helvetica, Arial, sans-serif" font-size="10">',
        f"<title>{escape(title)}</title>",
        '<g fill="none" stroke="#888888">',
    ]
    for node in graph.nodes:
        for operand in dict.fromkeys(operand for _, operand in uses(node)):
            (x, y), (u, v) = place[operand], place[node]
            x, y, u = x + _WIDTH / 2, y + _HEIGHT, u + _WIDTH / 2
            middle = (y + v) / 2
            parts.append(f'<path d="M{x:.0f},{y:.0f} C{x:.0f},{middle:.0f} {u:.0f},{middle:.0f} {u:.0f},{v:.0f}"/>')
    parts.append("</g>")
    parts += [_box(node, *place[node], slots) for node in graph.nodes]
    return "\n".join([*parts, "</svg>"]) + "\n"


def _layers(graph: fx.Graph) -> list[list[fx.Node]]:
    """The nodes by length of the longest path to them; slots right above their first reader."""
    depth: dict[fx.Node, int] = {}
    for node in graph.nodes:
        depth[node] = 1 + max((depth[operand] for operand in node.all_input_nodes), default=-1)
    for node in graph.nodes:
        if node.op == "placeholder" and node.users:
            depth[node] = min(depth[user] for user in node.users) - 1
    layers: list[list[fx.Node]] = [[] for _ in range(max(depth.values(), default=-1) + 1)]
    for node in graph.nodes:
        layers[depth[node]].append(node)
    return [layer for layer in layers if layer]


def _places(layers: list[list[fx.Node]]) -> dict[fx.Node, tuple[float, float]]:
    column = {node: float(i) for layer in layers for i, node in enumerate(layer)}
    for sweep in range(_SWEEPS):
        for layer in layers if sweep % 2 == 0 else reversed(layers):
            wanted = {}
            for node in layer:
                around = node.all_input_nodes if sweep % 2 == 0 else list(node.users)
                wanted[node] = sum(column[other] for other in around) / len(around) if around else column[node]
            layer.sort(key=wanted.__getitem__)
            start = sum(wanted.values()) / len(layer) - (len(layer) - 1) / 2
            column.update({node: start + i for i, node in enumerate(layer)})
    left = min(column.values(), default=0.0)
    return {
        node: (_MARGIN + (column[node] - left) * (_WIDTH + _GAP_X), _MARGIN + row * (_HEIGHT + _GAP_Y))
        for row, layer in enumerate(layers)
        for node in layer
    }


def _box(node: fx.Node, x: float, y: float, slots: Mapping[str, str]) -> str:
    made_by, binding = node.meta.get("tzwc_made_by"), node.meta.get("tzwc_binding")
    call = short_name(node.target) if node.op.startswith("call") else node.op
    fill = _END if node.op in ("placeholder", "output") else _STATIC if binding == "static" else _DYNAMIC
    line = _MADE if made_by else "#444444"
    kept = ", kept" if node.meta.get("tzwc_cached") else ""
    facts = [origin(location(node)), f"by {made_by}" if made_by else "", f"{binding}{kept}" if binding else ""]
    texts = [slots.get(node.name, node.name), call, describe(value_of(node))]
    rows = "".join(
        f'<text x="{x + _WIDTH / 2:.0f}" y="{y + 13 + 12 * i:.0f}" text-anchor="middle">{escape(_short(text))}</text>'
        for i, text in enumerate(texts)
    )
    return (
        f"<g id={quoteattr(node.name)}><title>{escape('; '.join(filter(None, [node.name, *facts])))}</title>"
        f'<rect x="{x:.0f}" y="{y:.0f}" width="{_WIDTH}" height="{_HEIGHT}" rx="{8 if binding == "static" else 2}" '
        f'fill="{fill}" stroke="{line}" stroke-width="{3 if kept else 2 if made_by else 1}"/>{rows}</g>'
    )


def _short(text: str) -> str:
    return text if len(text) <= _CHARACTERS else f"{text[: _CHARACTERS - 1]}…"
