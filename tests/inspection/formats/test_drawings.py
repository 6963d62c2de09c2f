"""DOT, networkx and GraphML show every node and every use."""

from __future__ import annotations

import io
import re

import networkx as nx
import torch
from torch import fx

from tests.support.inspection_cases import case
from tzwc.inspection import to_dot, to_graphml, to_networkx


def test_networkx_has_every_node_and_use() -> None:
    stage = case("indexing").stages[-1]
    network = to_networkx(stage)
    assert list(network.nodes) == [node.name for node in stage.graph.nodes]
    assert nx.is_directed_acyclic_graph(network)
    [cat] = stage.graph.find_nodes(op="call_function", target=torch.ops.aten.cat.default)
    operands = sorted(network.in_edges(cat.name, keys=True), key=lambda edge: int(edge[2].partition(".")[2]))
    assert [(source, key) for source, _, key in operands] == [(n.name, f"0.{i}") for i, n in enumerate(cat.args[0])]
    assert network.nodes[cat.name]["target"] == "torch.ops.aten.cat.default"
    assert re.fullmatch(r"f32\[s\d+, 3, 4, 96\]", network.nodes[cat.name]["value"])


def test_operands_in_slices_and_dictionaries_are_uses() -> None:
    graph = fx.Graph()
    n, x = graph.placeholder("n"), graph.placeholder("x")
    graph.output({"y": graph.call_function(torch.narrow, (x,), {"dim": 0, "start": slice(n, None, n), "length": n})})
    edges = {(a, b, key) for a, b, key in to_networkx(graph).edges(keys=True)}
    assert edges == {
        ("x", "narrow", "0"),
        ("n", "narrow", "start.start"),
        ("n", "narrow", "start.step"),
        ("n", "narrow", "length"),
        ("narrow", "output", "0.y"),
    }


def test_graphml_is_read_back() -> None:
    stage = case("layers").stages[-1]
    read = nx.read_graphml(io.StringIO(to_graphml(stage)), force_multigraph=True)
    assert set(read.nodes) == {node.name for node in stage.graph.nodes}
    assert read.nodes["conv2d"]["module_path"] == "features.0"
    assert isinstance(read.nodes["conv2d"]["line"], int)


def test_dot_clusters_by_module_and_marks_binding_and_pass() -> None:
    it = case("layers")
    graph = fx.Graph()
    graph.output(graph.graph_copy(it.stages[-1].graph, {}))
    node = next(node for node in graph.nodes if node.name == "conv2d")
    node.meta |= {
        "tzwc_binding": "static",
        "tzwc_binding_reason": 'a "constant"\nalways',
        "tzwc_made_by": "some/rule",
    }
    text = to_dot(graph, slots=it.slots)
    assert 'subgraph "cluster_features" {' in text
    assert 'label="features.0"' in text
    [line] = [line for line in text.splitlines() if line.strip().startswith('"conv2d" [')]
    assert 'style="filled,rounded"' in line
    assert 'penwidth="2.5"' in line
    assert r"static: a \"constant\"\nalways" in line
    assert "by some/rule" in line
    assert 'label="head.weight\\nslot\\nf32[4, 8]"' in text
    assert '"x" -> "conv2d" [label="0"];' in text
    # Braces and quotes balance, so that Graphviz can read it.
    bare = re.sub(r'"(\\.|[^"\\])*"', "", text)
    assert '"' not in bare
    assert bare.count("{") == bare.count("}")
