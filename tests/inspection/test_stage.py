"""Stages are cheap to take, complete, and come in many forms."""

from __future__ import annotations

import subprocess
import sys
from xml.etree import ElementTree

import pytest
import torch
from torch import fx, nn

import tzwc
from tests.support.inspection_cases import MODULES, case
from tests.support.programs import HyperConv, example
from tzwc.inspection import Stage
from tzwc.ir.snapshot import Snapshot
from tzwc.runtime.compiled_module import CompiledModule


@pytest.fixture(scope="module")
def fast() -> CompiledModule:
    made = tzwc.compile(HyperConv().double(), backend="eager")
    with torch.no_grad():
        made(example())
    return made


@pytest.mark.parametrize("name", MODULES)
def test_json_and_back_without_loss(name: str) -> None:
    it = case(name)
    for stage in it.stages:
        text = stage.to_json()
        assert Stage.from_json(text).to_json() == text


def test_a_stage_of_a_compiled_model_comes_back_with_its_remarks(fast: CompiledModule) -> None:
    stage = fast.stage("hoist_static")
    back = Stage.from_json(stage.to_json(indent=1))
    assert back.remarks == stage.remarks != ()
    assert dict(back.slots) == dict(stage.slots) != {}
    assert fast.diff("hoist_static", "hoist_static").endswith("no difference\n")
    for form in ("to_python", "to_dot", "to_svg", "to_graphml"):
        assert getattr(back, form)() == getattr(stage, form)()


def test_text_that_is_no_stage_is_refused() -> None:
    with pytest.raises(tzwc.InvalidArgumentError, match="not JSON"):
        Stage.from_json("{")


def test_every_node_has_origin_shape_cost_and_binding(fast: CompiledModule) -> None:
    graph = fast.stage("hoist_static").to_networkx()
    calls = [facts for _, facts in graph.nodes(data=True) if facts["op"] == "call_function"]
    for facts in calls:
        assert facts.keys() >= {"value", "file", "line", "code", "binding", "flops", "seconds", "bytes"}
    assert {"static", "dynamic"} == {facts["binding"] for facts in calls}
    assert any(facts["module_path"] == "slow.0" for facts in calls)
    assert sum(facts["flops"] for facts in calls) > 1000


@pytest.mark.parametrize("name", ["capture", "hoist_static"])
def test_python_text_runs_by_itself(fast: CompiledModule, name: str) -> None:
    text = fast.stage(name).to_python()
    assert "slot slow.0.weight" in text
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
    assert done.stdout == "torch.float64 [5, 3]\n"


@pytest.mark.parametrize("name", ["layers", "shapes", "constants"])
def test_python_text_read_from_a_file_runs_by_itself(name: str) -> None:
    stage = Stage.from_json(case(name).stages[-1].to_json())
    done = subprocess.run([sys.executable, "-c", stage.to_python()], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_drawing(fast: CompiledModule) -> None:
    stage = fast.stage("hoist_static")
    picture = ElementTree.fromstring(stage.to_svg())
    names = {group.get("id") for group in picture.iter("{http://www.w3.org/2000/svg}g")}
    assert {node.name for node in stage.graph.nodes} <= names
    assert ElementTree.fromstring(Stage("empty", fx.Graph()).to_svg()) is not None


def test_unchanged_graphs_are_shared(fast: CompiledModule) -> None:
    assert fast.stage("fuse_hyperzzw").graph is fast.stage("cse").graph
    assert fast.stage("hoist_static").graph is not fast.stage("select_convolution").graph


def test_a_snapshot_stays_as_it_was() -> None:
    graph = fx.symbolic_trace(nn.Sequential(nn.ReLU(), nn.Tanh())).graph
    taken, other = Snapshot(graph), Snapshot(graph)
    assert taken.same(other)
    [first, second] = (node for node in graph.nodes if node.op == "call_module")
    second.replace_input_with(first, first.args[0])
    second.meta["tzwc_made_by"] = "test/rule"
    graph.erase_node(first)
    assert not taken.same(Snapshot(graph))
    assert [node.name for node in taken.graph().nodes] == ["input_1", "_0", "_1", "output"]
    assert "tzwc_made_by" not in list(taken.graph().nodes)[2].meta
    taken.graph().lint()


def test_without_snapshots_there_is_one_stage_with_all_remarks() -> None:
    made = tzwc.compile(HyperConv().double(), backend="eager", snapshots=False)
    with torch.no_grad():
        torch.testing.assert_close(made(example()), made.original(example()))
    [stage] = made.stages
    assert stage.name == "hoist_static"
    assert stage.remarks
    assert "1 specialisation" in str(made.report())


def test_kept_values_name_nodes_of_their_own_graph(fast: CompiledModule) -> None:
    graph = fast.stage("hoist_static").graph
    kept = [node for node in graph.nodes if "tzwc_cached" in node.meta]
    assert kept
    assert all(node.meta["tzwc_cached"].node is node for node in kept)
