"""The export follows the documented form of graph collections."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.support.inspection_cases import case
from tests.support.viewer_programs import aten, call, report, stages
from tzwc.inspection import SpecialisationInfo
from tzwc.inspection.viewer import model_explorer

# The fields of input_graph.ts and types.ts that are written, with their types; "?" marks optional ones.
PAIRS = [{"key": str, "value": str}]
EDGE = {"sourceNodeId": str, "sourceNodeOutputId": str, "targetNodeInputId": str}
NODE = {
    "id": str,
    "label": str,
    "namespace": str,
    "attrs?": PAIRS,
    "incomingEdges?": [EDGE],
    "outputsMetadata?": [{"id": str, "attrs": PAIRS}],
    "style?": {"backgroundColor?": str, "borderColor?": str},
}
COLLECTION = {"label": str, "graphs": [{"id": str, "nodes": [NODE], "groupNodeAttributes?": {"": dict}}]}


def check(value: Any, schema: Any, path: str = "$") -> None:
    """Fail unless ``value`` has the fields of ``schema`` and no others."""
    if isinstance(schema, type):
        assert type(value) is schema, path
    elif isinstance(schema, list):
        assert isinstance(value, list), path
        for i, item in enumerate(value):
            check(item, schema[0], f"{path}[{i}]")
    else:
        assert isinstance(value, dict), path
        known = {name.rstrip("?"): inner for name, inner in schema.items()}
        assert set(value) <= set(known), path
        assert {name for name in schema if not name.endswith("?")} <= set(value), path
        for name, item in value.items():
            check(item, known[name], f"{path}.{name}")


def test_form_and_edges() -> None:
    it = case("indexing")
    collection = model_explorer(SpecialisationInfo("a", stages=tuple(it.stages), slots=it.slots, root=it.root))
    check(collection, COLLECTION)
    assert [graph["id"] for graph in collection["graphs"]] == ["00 capture", "01 nothing", "02 swap_factors"]
    for graph, stage in zip(collection["graphs"], it.stages, strict=True):
        names = [node["id"] for node in graph["nodes"]]
        assert names == [node.name for node in stage.graph.nodes]
        for node in graph["nodes"]:
            assert {edge["sourceNodeId"] for edge in node["incomingEdges"]} <= set(names)
        cat = next(node for node in graph["nodes"] if node["id"] == "cat")
        assert [edge["targetNodeInputId"] for edge in cat["incomingEdges"]] == [str(i) for i in range(12)]


def test_a_slash_in_a_name_opens_no_level() -> None:
    def build(graph: Any) -> Any:
        stack = {"": ("a/b.c", "")}
        return call(graph, "n", aten.exp.default, graph.placeholder("x"), nn_module_stack=stack, tzwc_binding="static")

    [info] = report(*stages(build)).specialisations
    node = model_explorer(info)["graphs"][0]["nodes"][1]
    assert node["namespace"] == "a∕b/c"
    assert node["style"] == {"backgroundColor": "#cfe8cf"}


def test_a_dump_has_it(dumped: Path) -> None:
    [folder] = [path for path in dumped.iterdir() if path.is_dir()]
    collection = json.loads((folder / "model_explorer.json").read_text())
    check(collection, COLLECTION)
    assert len(collection["graphs"]) == len(list(folder.glob("??_*.py")))
