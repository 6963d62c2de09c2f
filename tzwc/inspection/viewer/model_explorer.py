"""The stages as a graph collection for Google's Model Explorer, in the JSON form that it opens by itself.

The form is documented as ``GraphCollection`` in its sources (``input_graph.ts``): a collection has a label and graphs,
a graph has nodes, a node names its namespace with ``/`` and its operands as incoming edges. All values are text.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import fx

from tzwc.inspection.formats.call_targets import short_name
from tzwc.inspection.formats.networkx_graph import uses
from tzwc.inspection.records import SpecialisationInfo
from tzwc.inspection.text.python_source import short_path
from tzwc.inspection.viewer.modules import ModuleTree
from tzwc.ir.graph import location
from tzwc.ir.snapshot import StageRecord
from tzwc.ir.values import describe, value_of

__all__ = ["model_explorer"]

_STATIC, _KEPT, _MADE = "#cfe8cf", "#c79a00", "#c05000"


def model_explorer(info: SpecialisationInfo) -> dict[str, Any]:
    """One graph for each stage, in order."""
    modules = ModuleTree.of(stage.graph for stage in info.stages)
    graphs = [_graph(number, stage, info.slots, modules) for number, stage in enumerate(info.stages)]
    return {"label": info.name, "graphs": graphs}


def _graph(number: int, stage: StageRecord, slots: Mapping[str, str], modules: ModuleTree) -> dict[str, Any]:
    nodes = [_node(node, slots, modules) for node in stage.graph.nodes]
    facts = {"pass": stage.name, "seconds": f"{stage.seconds:.3g}", "remarks": str(len(stage.remarks))}
    return {"id": f"{number:02d} {stage.name}", "nodes": nodes, "groupNodeAttributes": {"": facts}}


def _node(node: fx.Node, slots: Mapping[str, str], modules: ModuleTree) -> dict[str, Any]:
    where = location(node)
    value = describe(value_of(node))
    label = slots.get(node.name, node.name) if node.op == "placeholder" else short_name(node.target)
    attributes = {
        "operation": None if node.op == "call_function" else node.op,
        "made by": node.meta.get("tzwc_made_by"),
        "binding": node.meta.get("tzwc_binding"),
        "because": node.meta.get("tzwc_binding_reason"),
        "kept": "between calls" if node.meta.get("tzwc_cached") else None,
        "source": None if where.file is None else f"{short_path(where.file)}:{where.line}",
        "code": where.code,
    }
    result: dict[str, Any] = {
        "id": node.name,
        "label": label,
        # A slash would open another level.
        "namespace": "/".join(part.replace("/", "∕") for part in modules.parts(modules.module_of(node, slots))),
        "attrs": [{"key": key, "value": str(text)} for key, text in attributes.items() if text],
        "incomingEdges": [
            {"sourceNodeId": operand.name, "sourceNodeOutputId": "0", "targetNodeInputId": str(position)}
            for position, (_, operand) in enumerate(uses(node))
        ],
        "outputsMetadata": [{"id": "0", "attrs": [{"key": "tensor_shape", "value": value}]}] if value else [],
    }
    style = {
        "backgroundColor": _STATIC if node.meta.get("tzwc_binding") == "static" else None,
        "borderColor": _KEPT if node.meta.get("tzwc_cached") else _MADE if node.meta.get("tzwc_made_by") else None,
    }
    if any(style.values()):
        result["style"] = {key: colour for key, colour in style.items() if colour}
    return result
