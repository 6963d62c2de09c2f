"""A graph in the DOT language of Graphviz: boxes by module, colours by binding time, borders by the pass that made it.

``dot -Tsvg stage.dot -o stage.svg`` draws it. Node identifiers are the node names of the graph, so that a picture can
be searched for a name from a remark.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import fx

from tzwc.inspection.formats.call_targets import short_name
from tzwc.inspection.formats.networkx_graph import uses
from tzwc.inspection.text.python_source import origin
from tzwc.ir.graph import location
from tzwc.ir.snapshot import StageRecord
from tzwc.ir.values import describe, value_of

__all__ = ["to_dot"]

# Legible in black and white as well: static nodes are also rounded, nodes made by a pass have a thick border, and kept
# values a double one.
_STATIC, _DYNAMIC, _INPUT, _MADE = "#cfe8cf", "#ffffff", "#e8e8e8", "#c05000"


def to_dot(stage: StageRecord | fx.Graph, *, slots: Mapping[str, str] | None = None) -> str:
    """The graph as DOT text.

    Args:
        slots: dotted parameter or buffer name by placeholder name, shown instead of the placeholder's own.
    """
    graph = stage.graph if isinstance(stage, StageRecord) else stage
    title = stage.name if isinstance(stage, StageRecord) else "graph"
    root = _Cluster()
    for node in graph.nodes:
        cluster = root
        path = location(node).module_path if node.op.startswith("call") else ""
        for part in path.split(".") if path else ():
            cluster = cluster.children.setdefault(part, _Cluster())
        cluster.nodes.append(node)
    lines = [
        f"digraph {_quote(title)} {{",
        f"  label={_quote(title)}; labelloc=t; fontname=Helvetica; compound=true;",
        "  node [shape=box, style=filled, fontname=Helvetica, fontsize=10];",
        "  edge [fontname=Helvetica, fontsize=8, color=gray40];",
        *_cluster_lines(root, "", "  ", slots or {}),
    ]
    for node in graph.nodes:
        for place, operand in uses(node):
            # With a single operand its place says nothing.
            label = f" [label={_quote(place)}]" if len(node.all_input_nodes) > 1 and node.op != "output" else ""
            lines.append(f"  {_quote(operand.name)} -> {_quote(node.name)}{label};")
    return "\n".join([*lines, "}"]) + "\n"


@dataclass
class _Cluster:
    """The nodes of one module, and its submodules by the last part of their path."""

    nodes: list[fx.Node] = field(default_factory=list)
    children: dict[str, _Cluster] = field(default_factory=dict)


def _cluster_lines(cluster: _Cluster, path: str, indent: str, slots: Mapping[str, str]) -> list[str]:
    lines = [f"{indent}{_node(node, slots)}" for node in cluster.nodes]
    for name, child in cluster.children.items():
        inner = f"{path}.{name}" if path else name
        lines += [
            f"{indent}subgraph {_quote(f'cluster_{inner}')} {{",
            f"{indent}  label={_quote(inner)}; style=rounded; color=gray60; fontname=Helvetica; fontsize=11;",
            *_cluster_lines(child, inner, f"{indent}  ", slots),
            f"{indent}}}",
        ]
    return lines


def _node(node: fx.Node, slots: Mapping[str, str]) -> str:
    made_by, binding = node.meta.get("tzwc_made_by"), node.meta.get("tzwc_binding")
    call = short_name(node.target) if node.op.startswith("call") else node.op
    if node.op == "placeholder":
        call = "slot" if node.name in slots else "input"
    text = [slots.get(node.name, node.name), call, describe(value_of(node)), f"by {made_by}" if made_by else ""]
    static = binding == "static"
    fill = _INPUT if node.op in ("placeholder", "output") else _STATIC if static else _DYNAMIC
    attributes = {
        "label": "\n".join(line for line in text if line),
        "fillcolor": fill,
        "tooltip": origin(location(node)) + (f"; {binding}" if binding else "") + _because(node),
    }
    if static:
        attributes["style"] = "filled,rounded"
    if made_by:
        attributes |= {"color": _MADE, "penwidth": "2.5"}
    if node.meta.get("tzwc_cached"):
        attributes["peripheries"] = "2"  # kept between calls
    return f"{_quote(node.name)} [{', '.join(f'{key}={_quote(value)}' for key, value in attributes.items())}];"


def _because(node: fx.Node) -> str:
    reason = node.meta.get("tzwc_binding_reason")
    return f": {reason}" if reason else ""


def _quote(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
