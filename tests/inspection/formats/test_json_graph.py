"""Graphs survive the way to JSON text and back; files that ask for more than tensor operators are refused."""

from __future__ import annotations

import copy
import json
import math
import operator
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import fx, nn

from tests.support.inspection_cases import MODULES, case, interpret, run, same
from tzwc.errors import InvalidArgumentError
from tzwc.inspection import Stage, graph_from_dict, graph_to_dict, stage_from_dict, stage_to_dict
from tzwc.inspection.formats.json_arguments import decode, encode
from tzwc.inspection.text.python_source import to_python
from tzwc.ir.values import describe, value_of


def _through_json(data: Any) -> Any:
    return json.loads(json.dumps(data, allow_nan=False))


@pytest.mark.parametrize("name", MODULES)
def test_round_trip(name: str) -> None:
    it = case(name)
    for stage in it.stages:
        data = _through_json(stage_to_dict(stage, it.root))
        back = stage_from_dict(data)
        assert stage_to_dict(back) == data
        assert (back.name, back.seconds, back.remarks) == (stage.name, stage.seconds, stage.remarks)
        module = back.graph.owning_module
        assert isinstance(module, fx.GraphModule)
        assert same(interpret(fx.GraphModule(module, back.graph), it), run(stage, it))
        assert to_python(back) == to_python(stage, root=it.root)


_scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.complex_numbers(),
    st.text(),
    st.sampled_from(
        [torch.float32, torch.bool, torch.strided, torch.sparse_coo, torch.channels_last, torch.device("cuda", 1), ...]
    ),
)
_arguments = st.recursive(
    _scalars | st.builds(slice, st.none() | st.integers(), st.none() | st.integers(), st.none() | st.integers()),
    lambda inner: st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(_arguments)
@settings(max_examples=100, deadline=None)
def test_arguments_round_trip(value: object) -> None:
    # repr tells 1 from True from 1.0, a list from a tuple, -0.0 from 0.0, and NaN equals itself.
    assert repr(decode(_through_json(encode(value)), {})) == repr(value)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=12))
@settings(max_examples=40, deadline=None)
def test_random_graphs_round_trip(recipe: list[tuple[int, int, int]]) -> None:
    graph = fx.Graph()
    values = [graph.placeholder("x"), graph.placeholder("y")]
    aten = torch.ops.aten
    for kind, i, j in recipe:
        a, b = values[i % len(values)], values[j % len(values)]
        calls = [
            (aten.add.Tensor, (a, b), {"alpha": 2}),
            (aten.mul.Tensor, (a, math.inf if j > 8 else j - 4.5), {}),
            (operator.getitem, (a, (slice(None, None, 2), slice(-3, None), ...)), {}),
            (aten.cat.default, ([a, b], -1), {}),
            (aten.to.dtype, (a, torch.float64), {}),
            (aten.full_like.default, (b, math.nan), {"dtype": torch.float32, "device": torch.device("cpu")}),
        ]
        values.append(graph.call_function(*calls[kind]))
    graph.output(tuple(values))
    back = graph_from_dict(_through_json(graph_to_dict(graph)))
    assert graph_to_dict(back) == graph_to_dict(graph)
    assert [str(node.target) for node in back.nodes] == [str(node.target) for node in graph.nodes]
    inputs = torch.randn(4, 4), torch.randn(4, 4)

    def outcome(g: fx.Graph) -> object:
        try:
            return fx.Interpreter(fx.GraphModule(nn.Module(), g)).run(*inputs)
        except RuntimeError as error:  # shapes need not fit; then both have to fail at the same node
            return str(error).partition("\n")[0]

    assert same(outcome(back), outcome(graph))


def _graph_of(function: str, *args: Any, **node: Any) -> dict[str, Any]:
    rest = {"kwargs": {}, "value": None, "location": {"module_path": "", "file": None, "line": None, "code": None}}
    call = {"name": "call", "op": "call_function", "target": function, "args": list(args), **rest, **node}
    output = {"name": "output", "op": "output", "target": "output", "args": [{"node": "call"}], **rest}
    return {"format": "tzwc-graph-1", "nodes": [call, output], "constants": {}, "submodules": {}}


def test_what_a_pass_decided_survives() -> None:
    graph = fx.Graph()
    node = graph.call_function(torch.ops.aten.neg.default, (graph.placeholder("x"),))
    node.meta |= {
        "tzwc_binding": "static",
        "tzwc_binding_reason": "why",
        "tzwc_made_by": "p/r",
        "tzwc_cached": object(),
    }
    graph.output(node)
    data = _through_json(graph_to_dict(graph))
    back = graph_from_dict(data)
    assert graph_to_dict(back) == data
    assert "# static, kept, by p/r" in to_python(back)
    assert data["nodes"][1]["binding_reason"] == "why"


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "builtins.eval",
        "builtins.__import__",
        "operator.attrgetter",
        "operator.methodcaller",
        "operator.call",
        "operator.__builtins__",
        "math.__loader__.load_module",
        "torch.load",
        "torch.ops.load_library",
        "torch.ops.aten.from_file.default",
        "torch.ops.aten.add.Tensor.__class__",
        "torch.ops.aten.__class__.mro",
        "torch.ops.inductor.resize_storage_bytes_.default",
        "torch.ops.higher_order.__class__",
        "torch.sym_max.__globals__",
        "tzwc.inspection.dump.dump",
        "tzwc.ops.torch.load",
        "tzwc.ops.__builtins__.eval",
        "tzwc.ops._nothing",
        "tzwc.ops..x",
        "torch.ops.aten.addé.Tensor",
        "",
    ],
)
def test_functions_outside_of_the_list_are_refused(target: str) -> None:
    with pytest.raises(InvalidArgumentError, match="not admitted"):
        graph_from_dict(_graph_of(target, "x"))


def test_admitted_targets_load() -> None:
    names = ["torch.ops.aten.neg.default", "operator.neg", "math.floor", "torch.sym_int", "builtins.max"]
    for name in names:
        graph = graph_from_dict(_graph_of(name, 2.5))
        assert graph_to_dict(graph)["nodes"][0]["target"] == name


def test_the_caller_can_admit_functions() -> None:
    data = _graph_of("mine.double", 4)
    graph = graph_from_dict(data, targets={"mine.double": lambda x: 2 * x})
    assert fx.GraphModule(nn.Module(), graph)() == 8


@pytest.mark.parametrize(
    "change",
    [
        {"name": "x=print('gotcha')"},
        {"name": "lambda"},
        {"name": 3},
        {"op": "placeholder", "target": "x=print('gotcha')"},
        {"op": "get_attr", "target": "training"},
        {"op": "call_method", "target": "__reduce__"},
        {"op": "call_module", "target": "x"},
        {"kwargs": {"x=print()": 1}},
        {"args": [{"node": "later"}]},
        {"args": [{"dtype": "load"}]},
        {"args": [{"dtype": "float32", "layout": "strided"}]},
        {"args": [{"float": "1e400"}]},
        {"args": [{"device": "../x"}]},
        {"args": [{"symbol": "__import__('os')"}]},
        {"args": [{"slice": [1]}]},
        {"args": None},
        {"location": {}},
    ],
)
def test_malformed_nodes_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgumentError):
        graph_from_dict(_graph_of("operator.neg", 1, **change))


def test_malformed_files_are_refused() -> None:
    good = _graph_of("operator.neg", 1)
    constant = {"dtype": "float32", "shape": [1], "device": "cpu", "data": "AACAPw=="}
    for broken in (
        {},
        {**good, "format": "tzwc-graph-0"},
        {**good, "nodes": good["nodes"][:1] * 2},
        {**good, "constants": {"__class__": constant}},
        {**_graph_of("forward", op="get_attr"), "constants": {"forward": constant}},
        {**good, "constants": {"c": {**constant, "shape": [2**60]}}},
        {**good, "constants": {"c": {**constant, "shape": [-1]}}},
        {**good, "constants": {"c": {**constant, "dtype": "load"}}},
        {**good, "submodules": {"m": {}}},
    ):
        with pytest.raises(InvalidArgumentError):
            graph_from_dict(broken)
    for value in (
        {"dtype": "float32", "shape": ["exit()"], "stride": None, "device": "cpu"},
        {"dtype": "load", "shape": [1], "stride": None, "device": "cpu"},
        {"type": "int", "value": "__import__('os').getcwd()"},
        {"type": "int", "value": "1\nexit()"},
    ):  # would be written into the script of to_python
        with pytest.raises(InvalidArgumentError):
            graph_from_dict({**good, "nodes": [{**good["nodes"][0], "value": value}, *good["nodes"][1:]]})
    for sizes in (["s0", "2*s0 + 1"], ["floor(s0/2)", "Max(1, s0//2)"]):
        value = {"dtype": "float32", "shape": sizes, "stride": None, "device": "cpu"}
        graph_from_dict({**good, "nodes": [{**good["nodes"][0], "value": value}, *good["nodes"][1:]]})
    for text in ("[" * 100_000, "", None):
        with pytest.raises(InvalidArgumentError, match="is not JSON"):
            Stage.from_json(text)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgumentError, match="stage data"):
        stage_from_dict({"name": "x", "seconds": 0, "remarks": [], "slots": 3, "graph": good})
    nested: list[Any] = []
    for _ in range(100_000):
        nested = [nested]
    with pytest.raises(InvalidArgumentError):
        graph_from_dict(_graph_of("operator.neg", nested))
    with pytest.raises(InvalidArgumentError, match="stage data"):
        stage_from_dict({"name": "x"})


def test_large_constants_have_to_be_supplied() -> None:
    root = nn.Module()
    root.small, root.big = nn.Buffer(torch.randn(3).to(torch.complex64).conj()), nn.Buffer(torch.randn(20_000))
    graph = fx.Graph()
    graph.output((graph.create_node("get_attr", "small"), graph.create_node("get_attr", "big")))
    data = _through_json(graph_to_dict(graph, root))
    with pytest.raises(InvalidArgumentError, match=r"constants=\{'big': tensor\}"):
        graph_from_dict(data)
    back = graph_from_dict(data, constants={"big": root.big})
    assert back.owning_module is not None
    assert same(fx.GraphModule(back.owning_module, back)(), (root.small.resolve_conj(), root.big))


def test_what_the_root_lacks_has_to_be_supplied_too() -> None:
    graph = fx.Graph()
    graph.output(graph.create_node("get_attr", "table"))
    data = _through_json(graph_to_dict(graph))
    with pytest.raises(InvalidArgumentError, match=r"'table' \(None None\) .* pass constants=\{'table': tensor\}"):
        graph_from_dict(data)
    table = torch.ones(3)
    back = graph_from_dict(data, constants={"table": table})
    assert back.owning_module is not None
    assert fx.GraphModule(back.owning_module, back)() is table


@pytest.mark.parametrize("shape", [(0,), (3, 0, 2)])
def test_empty_constants_are_stored(shape: tuple[int, ...]) -> None:
    root, graph = nn.Module(), fx.Graph()
    root.empty = nn.Buffer(torch.empty(shape, dtype=torch.int16))
    graph.output(graph.create_node("get_attr", "empty"))
    back = graph_from_dict(_through_json(graph_to_dict(graph, root)))
    assert back.owning_module is not None
    assert same(fx.GraphModule(back.owning_module, back)(), root.empty)


def test_numbers_that_placeholders_stand_for_survive() -> None:
    graph = fx.Graph()
    nodes = [graph.placeholder(name) for name in ("n", "flag", "scale", "several")]
    for node, value in zip(nodes, (3, True, 2.5, (1, 2j)), strict=True):
        node.meta["val"] = value
    graph.output(tuple(nodes))
    data = _through_json(graph_to_dict(graph))
    back = graph_from_dict(data)
    assert graph_to_dict(back) == data
    assert [describe(value_of(node)) for node in list(back.nodes)[:4]] == [
        *("int 3", "bool True", "float 2.5", "(int 1, complex 2j)")
    ]


def test_arguments_without_a_json_form_are_refused() -> None:
    graph = fx.Graph()
    graph.output(graph.call_function(torch.ops.aten.neg.default, (graph.placeholder("x"),)))
    broken = copy.deepcopy(graph)
    next(iter(broken.find_nodes(op="call_function", target=torch.ops.aten.neg.default))).kwargs = {"g": range(3)}
    assert graph_to_dict(broken)["nodes"][1]["kwargs"] == {"g": {"range": [0, 3, 1]}}
    with pytest.raises(InvalidArgumentError, match="Generator"):
        encode(torch.Generator())
    assert isinstance(stage_from_dict(stage_to_dict(Stage("s", graph, (), 0.0))), Stage)
