"""Questions about sizes, einsum equations and the order of calls, each asked by itself."""

from __future__ import annotations

import operator

import pytest
import torch
from torch import fx

from tests.support.pass_testing import capture_function
from tzwc.errors import PassError
from tzwc.passes.convolution.convolution_calls import read_convolution
from tzwc.passes.shared.einsum_terms import einsum_terms
from tzwc.passes.shared.ordering import Ancestors, effect_order, restore_order
from tzwc.passes.shared.sizes import is_static, known_int, same_shape, same_size, shape_argument, shape_of, static_nodes

aten = torch.ops.aten
X = torch.randn(3, 4, 5, dtype=torch.float64)


def _open_batch():
    """``x`` of open batch, and its sine, in a graph."""
    graph = capture_function(lambda k, x: x.sin() * k, [X[0]], X).module.graph
    x = next(n for n in graph.nodes if n.op == "placeholder" and n.name.startswith("inputs"))
    return graph, x, next(n for n in graph.nodes if n.target is aten.sin.default)


def test_open_sizes_are_equal_only_where_that_is_proven():
    graph, x, sine = _open_batch()
    batch = shape_of(x)[0]
    assert not isinstance(batch, int)
    guards = len(batch.node.shape_env.guards)
    assert same_size(batch, shape_of(sine)[0])
    assert not same_size(batch, 3)
    assert not same_size(3, batch)
    assert len(batch.node.shape_env.guards) == guards  # to ask is not to assume
    assert same_size(3, 3)
    assert not same_size(3, 4)
    assert same_shape(shape_of(x), shape_of(sine))
    assert not same_shape((4, 5), (4,))
    assert not same_shape((4, 5), (4, 6))
    assert shape_of(3) == ()
    assert shape_of(next(n for n in graph.nodes if n.op == "output")) == ()


def test_known_numbers():
    graph, x, _ = _open_batch()
    with graph.inserting_after(x):
        size = graph.call_function(aten.sym_size.int, (x, 0))
    size.meta["val"] = 3
    assert (known_int(7), known_int(size)) == (7, 3)
    size.meta["val"] = shape_of(x)[0]
    assert [known_int(v) for v in (size, x, True, 2.0, None)] == [None] * 5


def test_shapes_as_arguments():
    graph, x, sine = _open_batch()
    batch = shape_of(x)[0]
    output = next(n for n in graph.nodes if n.op == "output")
    with graph.inserting_before(output):
        assert shape_argument(graph, (2, 3), []) == [2, 3]
        assert shape_argument(graph, (batch, 20), []) == [-1, 20]
        size, zero = shape_argument(graph, (batch, 0), [x])  # -1 would be ambiguous
        assert (size.target, size.args, zero) == (aten.sym_size.int, (x, 0), 0)
        assert str(size.meta["val"]) == str(batch)
        first, second, last = shape_argument(graph, (batch, batch, 5), [sine])
        assert (first.args, second.args, last) == ((sine, 0), (sine, 0), 5)
        assert shape_argument(graph, (batch, 2 * batch), [x]) is None


def test_what_follows_from_slots():
    program = capture_function(lambda k, x: (k.sin() * x, k.cos()), [X[0]], X)
    nodes = {n.name: n for n in program.module.graph.nodes}
    static = static_nodes(program.module.graph, program.slot_names)
    assert {n.name for n in static} == {*program.slot_names, "sin", "cos"}
    assert is_static(nodes["sin"], static)
    assert not is_static(nodes["mul"], static)
    assert is_static(2.0, static)
    assert nodes["output"] not in static_nodes(program.module.graph, frozenset(nodes))


@pytest.mark.parametrize(
    ("equation", "ranks", "terms"),
    [
        ("...l,l", (3, 1), (["abl", "l"], "ab")),
        ("ab,bc->ac", (2, 2), (["ab", "bc"], "ac")),
        ("ab, bc", (2, 2), (["ab", "bc"], "ac")),
        ("ba,bc", (2, 2), (["ba", "bc"], "ac")),
        ("...c,...c->...c", (3, 2), (["abc", "bc"], "abc")),
        ("...a->...", (3,), (["bca"], "bc")),
        ("...a,a->a", (1, 1), (["a", "a"], "a")),  # an ellipsis that stands for nothing
        ("...a->a", (3,), None),  # einsum sums over the ellipsis
        ("ab,bc->ac", (2, 2, 2), None),
        ("ab->ab", (3,), None),
        ("abc->abc", (2,), None),
        ("aa->a", (2,), None),
        ("ab->aa", (2,), None),
        ("ab->ac", (2,), None),
    ],
)
def test_letters(equation, ranks, terms):
    assert einsum_terms(equation, ranks) == terms


@pytest.mark.parametrize(("place", "name"), [(3, "stride or dilation"), (4, "padding"), (5, "stride or dilation")])
def test_convolutions_with_unknown_numbers_are_declined(place, name):
    graph = fx.Graph()
    x, weight, number = (graph.placeholder(name) for name in ("x", "weight", "number"))
    x.meta["val"], weight.meta["val"] = torch.zeros(1, 2, 8), torch.zeros(2, 2, 3)
    arguments = [x, weight, None, [1], [0], [1], 1]
    arguments[place] = [number]
    found = read_convolution(graph.call_function(aten.conv1d.default, tuple(arguments)))
    assert found == f"{name} is not known at capture"


def _effects():
    graph = fx.Graph()
    x = graph.placeholder("x")
    first = graph.call_function(aten.mul.Tensor, (x, 2))
    read = graph.call_function(aten.sin.default, (first,))
    write = graph.call_function(aten.add_.Tensor, (first, 1))
    again = graph.call_function(aten.sin.default, (first,))
    apart = graph.call_function(aten.cos.default, (x,))
    graph.output((read, again, apart, write))
    for node in graph.nodes:
        node.meta["val"] = torch.zeros(3)
    return graph, x, first, read, write, again, apart


def test_effects_keep_their_order():
    graph, x, first, read, write, again, apart = _effects()
    order = effect_order(graph)
    assert (order[read], order[write], order[again]) == ([], [read], [write])
    assert order[first] == order[apart] == order[x] == []
    above = Ancestors(graph)
    assert above.is_ancestor(x, again)
    assert above.is_ancestor(read, again)
    assert not above.is_ancestor(again, read)
    assert not above.is_ancestor(first, apart)
    read.append(again)  # before the write that it must see
    restore_order(graph, order)
    names = [n for n in graph.nodes if n.op == "call_function"]
    assert names.index(first) < names.index(read) < names.index(write) < names.index(again)
    graph.lint()


def test_order_is_restored_and_otherwise_kept():
    graph, x, first, read, _, _, apart = _effects()
    kept = [n for n in graph.nodes if n is not apart]
    with graph.inserting_before(first):
        late = graph.call_function(aten.neg.default, (x,))
    late.args = (apart,)
    restore_order(graph)
    nodes = list(graph.nodes)
    assert [n for n in nodes if n not in (apart, late)] == kept
    assert nodes.index(late) == nodes.index(apart) + 1
    assert nodes[-1].op == "output"
    read.args = (late,)
    apart.args = (read,)
    with pytest.raises(PassError, match="cycle"):
        restore_order(graph)


def test_reading_what_is_written_elsewhere_comes_after_the_write():
    graph = fx.Graph()
    x, y = graph.placeholder("x"), graph.placeholder("y")
    write = graph.call_function(aten.copy_.default, (x, y))
    drawn = graph.call_function(aten.rand_like.default, (y,))
    pair = graph.call_function(operator.getitem, ((drawn, y), 0))
    graph.output((write, pair))
    for node in graph.nodes:
        node.meta["val"] = torch.zeros(3)
    assert effect_order(graph)[drawn] == [write]
