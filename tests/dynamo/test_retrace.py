"""Graphs as Dynamo hands them over, made by hand: what has no faithful form as a graph of operators is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn
from torch._dynamo.source import ConstantSource
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import DimDynamic, ShapeEnv
from torch.utils._python_dispatch import TorchDispatchMode

from tzwc.dynamo import backend
from tzwc.dynamo.origins import NodeOrigins, dotted
from tzwc.dynamo.retrace import retrace
from tzwc.dynamo.verify import disagreement
from tzwc.errors import CaptureError


def _graph(build: Callable[..., Any], *names: str, **modules: nn.Module) -> fx.GraphModule:
    """A graph of these inputs, whose results ``build`` makes of the graph and their nodes."""
    graph = fx.Graph()
    graph.output(tuple(build(graph, *(graph.placeholder(name) for name in names))))
    return fx.GraphModule(modules, graph)


def _open_float(hint: float) -> torch.SymFloat:
    environment, source = ShapeEnv(), ConstantSource("f")
    symbol = environment.create_unspecified_symbol(hint, source, dynamic_dim=DimDynamic.DYNAMIC)
    found = environment.create_symfloatnode(symbol, hint=hint, source=source)
    assert isinstance(found, torch.SymFloat)
    return found


def _parameter(*values: float) -> nn.Parameter:
    return nn.Parameter(torch.tensor(values, dtype=torch.float64))


REFUSED: dict[str, tuple[Callable[..., Any], dict[str, Any], str]] = {
    "a number that is open": (
        lambda g, x, n: [g.call_method("mul", (x, n))],
        {"x": torch.ones(3), "n": _open_float(2.5)},
        "the argument n is a SymFloat",
    ),
    "other data": (
        lambda g, x, p, q: [g.call_function(setattr, (p, "data", q)), g.call_method("mul", (x, p))][1:],
        {"x": torch.ones(3), "p": _parameter(1.0), "q": _parameter(2.0)},
        "a tensor is given other data at node setattr_1",
    ),
    "a value of a parameter": (
        lambda g, x, p: [g.call_method("mul", (x, g.call_method("item", (p,))))],
        {"x": torch.ones(3), "p": nn.Parameter(torch.tensor(2.0))},
        "a value of a parameter is read at node item",
    ),
    "another shape": (
        lambda g, x: [g.call_method("unsqueeze_", (x, 0))],
        {"x": torch.ones(3)},
        "the shape of an argument is changed in place",
    ),
    "a body that is no graph": (
        lambda g, x: [g.call_function(torch.ops.higher_order.tag_activation_checkpoint, (g.get_attr("body"), x))],
        {"x": torch.ones(3)},
        "checkpoints in an unknown way",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused(case: str) -> None:
    build, arguments, message = REFUSED[case]
    module = _graph(build, *arguments, body=nn.Identity())
    with pytest.raises(CaptureError, match=message), torch.no_grad():
        retrace(module, list(arguments.values()))


def test_an_argument_of_another_shape_than_dynamo_saw_is_refused() -> None:
    module = _graph(lambda g, x: [g.call_method("sin", (x,))], "x")
    with FakeTensorMode():
        next(iter(module.graph.nodes)).meta["example_value"] = torch.empty(4)
    with pytest.raises(CaptureError, match="the shape of the argument x is changed in place"):
        retrace(module, [torch.ones(3)])


def test_a_write_to_memory_that_two_parameters_share_is_refused() -> None:
    first = _parameter(1.0, 2.0)
    second = nn.Parameter(first.detach())
    module = _graph(lambda g, p, q: [g.call_method("add", (g.call_method("mul_", (p, 2)), q))], "p", "q")
    with pytest.raises(CaptureError, match="is written to and shares its memory with another tensor"), torch.no_grad():
        retrace(module, [first, second])
    assert first.tolist() == [1.0, 2.0]


def test_a_number_becomes_a_constant() -> None:
    module = _graph(lambda g, x, n: [g.call_method("mul", (x, n))], "x", "n")
    x = torch.randn(3, dtype=torch.float64)
    found = retrace(module, [x, 3])
    assert (found.inputs, found.positions) == (("x",), (0,))
    assert torch.equal(found.module(x)[0], x * 3)


def test_a_float_that_dynamo_has_fixed_becomes_a_constant() -> None:
    value = _open_float(2.5)
    assert value == 2.5  # a guard: from now on it is that number
    module = _graph(lambda g, x, f: [g.call_method("mul", (x, g.call_method("item", (f,))))], "x", "f")
    (item,) = [node for node in module.graph.nodes if node.target == "item"]
    item.meta["example_value"] = value
    x = torch.randn(3, dtype=torch.float64)
    found = retrace(module, [x, torch.tensor(2.5, dtype=torch.float64)])
    assert not [n for n in found.module.graph.nodes if n.target is torch.ops.aten._local_scalar_dense.default]
    assert torch.equal(found.module(x, torch.tensor(0.0))[0], x * 2.5)


# --- agreement --------------------------------------------------------------------------------------------------------


def _scaled(factor: float) -> fx.GraphModule:
    return _graph(lambda g, x, p: [g.call_method("mul", (g.call_method("mul", (x, p)), factor))], "x", "p")


def _written(factor: float) -> fx.GraphModule:
    def build(graph: fx.Graph, x: fx.Node, p: fx.Node) -> list[fx.Node]:
        graph.call_method("mul_", (p, factor))
        return [graph.call_method("sin", (x,))]

    return _graph(build, "x", "p")


@pytest.mark.parametrize(("make", "message"), [(_scaled, "result 0: "), (_written, "'p': ")])
def test_graphs_that_disagree(make: Callable[[float], fx.GraphModule], message: str) -> None:
    arguments: list[Tensor] = [torch.randn(3, dtype=torch.float64), _parameter(1.0, 2.0, 3.0)]
    with torch.no_grad():
        traced = retrace(make(2.0), arguments)
        assert disagreement(make(2.0), traced, arguments) is None
        found = disagreement(make(3.0), traced, arguments)
    assert found is not None
    assert found.startswith(message)
    assert arguments[1].tolist() == [1.0, 2.0, 3.0]  # neither run leaves a trace


def test_without_values_there_is_nothing_to_disagree_about() -> None:
    x = torch.randn(3)
    traced = retrace(_graph(lambda g, x: [g.call_method("sin", (x,))], "x"), [x])
    with FakeTensorMode():
        fake = torch.empty(3)
    assert disagreement(_graph(lambda g, x: [g.call_method("cos", (x,))], "x"), traced, [fake]) is None


# --- the compiled graph -----------------------------------------------------------------------------------------------


class _Seen(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.operators: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.operators.append(str(func))
        return func(*args, **(kwargs or {}))


def test_who_looks_at_operators_sees_those_of_the_program() -> None:
    def build(graph: fx.Graph, x: fx.Node) -> list[fx.Node]:
        first, second = (graph.call_method("sin", (x,)) for _ in range(2))
        return [graph.call_method("mul", (first, second))]

    x = torch.randn(3, dtype=torch.float64)
    with torch.no_grad():
        compiled = backend(_graph(build, "x"), [x], options={"backend": "eager", "passes": ["cse"]})
        assert torch.equal(compiled(x)[0], x.sin() * x.sin())
        with _Seen() as seen:
            (found,) = compiled(x)
    assert seen.operators == ["aten.sin.default", "aten.sin.default", "aten.mul.Tensor"]
    assert torch.equal(found, x.sin() * x.sin())


# --- where operators come from ----------------------------------------------------------------------------------------


def test_origins_outside_of_any_node() -> None:
    origins = NodeOrigins()
    assert origins.here() == {"nn_module_stack": {}, "stack_trace": ""}
    assert origins.line() == "the graph"
    origins.node = fx.Graph().placeholder("x")
    assert origins.line() == "node x"


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("L['self']._modules['block']._parameters['weight']", "block.weight"),
        ("L['x']", "x"),
        ("G['scale']", "scale"),
        ("something else", "something else"),
    ],
)
def test_dotted_names(source: str, name: str) -> None:
    assert dotted(source) == name
