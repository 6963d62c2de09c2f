"""Binding times, and the minimum cut against trying every labelling."""

from __future__ import annotations

from itertools import product
from operator import getitem

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, fx, nn

import tzwc
from tests.support.examples import examples
from tests.support.programs import HyperConv, WithBuffers, example
from tzwc.ir.graph import nbytes, remove_dead_code
from tzwc.ir.roofline import machine_of
from tzwc.partition.binding_time import analyse
from tzwc.partition.min_cut import _late_cost, choose_frontier
from tzwc.passes import by_name
from tzwc.rewrite.pass_manager import PassContext


def captured_graph(model: nn.Module, *inputs: object, **kwargs: object) -> tuple[fx.Graph, frozenset[str]]:
    captured = tzwc.capture(model, *inputs, **kwargs)
    remove_dead_code(captured.module.graph)
    return captured.module.graph, frozenset(slot.name for slot in captured.slots)


def test_slow_network_is_static_and_fast_network_is_not() -> None:
    graph, slots = captured_graph(HyperConv().double(), example())
    bindings = analyse(graph, slots)
    static = {n.name for n, b in bindings.items() if b.static and n.op == "call_function"}
    assert {"linear", "tanh", "linear_1"} <= static
    convolution = next(n for n in graph.nodes if n.name == "conv1d_1")
    assert not bindings[convolution].static
    assert "gelu" in bindings[convolution].reason
    kernel = next(n for n in graph.nodes if n.name == "linear_1")
    assert len(bindings[kernel].slots) == 5  # grid, and weight and bias of two layers


def test_written_buffers_and_randomness_are_dynamic() -> None:
    graph, slots = captured_graph(WithBuffers().double(), {"x": torch.randn(5, 4, dtype=torch.float64)})
    bindings = analyse(graph, slots)
    reasons = {n.name: b.reason for n, b in bindings.items() if not b.static}
    assert "writes to its memory" in reasons["b_calls"]
    assert any("random" in reason for reason in reasons.values())


def test_parameters_with_gradients_are_dynamic_when_asked() -> None:
    graph, slots = captured_graph(HyperConv().double(), example())
    bindings = analyse(graph, slots & {"b_grid"})
    assert not any(b.static for n, b in bindings.items() if n.op == "call_function" and n.name.startswith("linear"))


class _Broadcast(nn.Module):
    """A large broadcast of a small static product: the small one is worth keeping, the large one is not."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(64, 64))

    def forward(self, x: Tensor) -> Tensor:
        small = (self.weight @ self.weight)[:1]
        return x + small.expand(4096, 64)


def test_a_broadcast_is_not_stored() -> None:
    graph, slots = captured_graph(_Broadcast(), torch.randn(4096, 64))
    kept = choose_frontier(graph, analyse(graph, slots))
    assert [value.node.name for value in kept] == ["slice_1"]  # one row of the product, and not its 4096 copies
    assert kept[0].bytes == 64 * 4
    assert kept[0].reason.startswith("2 operators (")
    assert choose_frontier(graph, analyse(graph, slots), cache_bytes=0) == []
    assert choose_frontier(graph, analyse(graph, slots), cache_bytes=64 * 4) == kept


class _Extremes(nn.Module):
    """Static operators whose results are tuples."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(64, 64))

    def forward(self, x: Tensor) -> Tensor:
        values, indices = (self.weight @ self.weight).max(1)
        return x * values + indices


def test_of_a_tuple_its_tensors_are_kept() -> None:
    graph, slots = captured_graph(_Extremes(), torch.randn(4, 64))
    kept = choose_frontier(graph, analyse(graph, slots))
    assert [(value.node.target, value.bytes) for value in kept] == [(getitem, 64 * 4), (getitem, 64 * 8)]


class _Twice(nn.Module):
    """Two static products, one of the other, which are both used by every call."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(64, 64))

    def forward(self, x: Tensor) -> Tensor:
        first = self.weight @ self.weight
        return x @ first + first @ self.weight


def test_what_a_kept_value_saves_ends_at_other_kept_values() -> None:
    graph, slots = captured_graph(_Twice(), torch.randn(4, 64, 64))
    kept = choose_frontier(graph, analyse(graph, slots))
    assert [(value.node.name, value.reason.partition(" (")[0]) for value in kept] == [
        ("matmul", "1 operator"),
        ("matmul_2", "1 operator"),
    ]
    assert [value.seconds for value in kept] == [_late_cost(value.node) for value in kept]


class _Two(nn.Module):
    """A small static value that saves as much as a large one."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(64, 64))

    def forward(self, x: Tensor) -> Tensor:
        return x @ (self.weight @ self.weight.sin()) + (self.weight @ self.weight.cos())[:1]


def test_under_a_limit_what_saves_most_for_its_size_is_kept() -> None:
    graph, slots = captured_graph(_Two(), torch.randn(4, 64, 64))
    bindings = analyse(graph, slots)
    assert sorted(value.bytes for value in choose_frontier(graph, bindings)) == [64 * 4, 64 * 64 * 4]
    assert [value.bytes for value in choose_frontier(graph, bindings, cache_bytes=64 * 64 * 4)] == [64 * 4]


class _Drawn(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(64, 64))

    def forward(self, x: Tensor) -> Tensor:
        return x @ nn.functional.dropout(self.weight @ self.weight, 0.5)


def test_what_keeps_a_static_value_from_going_on_is_said() -> None:
    module, slots = tzwc.capture(_Drawn(), torch.randn(4, 64)).module, frozenset({"p_weight"})
    context = PassContext("hoist_static", {}, slots)
    by_name("hoist_static").run(module, context)
    said = [(remark.nodes, remark.reason) for remark in context.remarks if remark.rule == "boundary"]
    assert said == [(("dropout",), "stays in every call: draws random numbers")]


class _Static(nn.Module):
    """A static expression with the shape of a random program."""

    def __init__(self, steps: list[tuple[str, int, int]]) -> None:
        super().__init__()
        self.steps = steps
        self.weight = nn.Parameter(torch.randn(24, 24))

    def forward(self, x: Tensor) -> Tensor:
        values = [self.weight]
        for kind, a, b in self.steps:
            left, right = values[a % len(values)], values[b % len(values)]
            values.append({"matmul": left @ right, "add": left + right, "row": left[:1].expand(24, 24)}[kind])
        return x + values[-1] + values[len(values) // 2]


_steps = st.lists(
    st.tuples(st.sampled_from(["matmul", "add", "row"]), st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=4
)


@settings(max_examples=examples(15))
@given(_steps)
def test_the_cut_is_the_cheapest_labelling(steps: list[tuple[str, int, int]]) -> None:
    graph, slots = captured_graph(_Static(steps), torch.randn(24, 24))
    bindings = analyse(graph, slots)
    nodes = [n for n, b in bindings.items() if b.static and n.op == "call_function"]

    def cost(early: set[fx.Node]) -> float:
        if any(a in nodes and a not in early for n in early for a in n.all_input_nodes):
            return float("inf")
        total = sum(_late_cost(n) for n in nodes if n not in early)
        kept = [n for n in early if any(user not in early for user in n.users)]
        return total + sum(nbytes(n) / machine_of(n).bandwidth for n in kept)

    used = [n for n in nodes if n.users]
    best = min(
        cost({n for n, chosen in zip(used, labels, strict=True) if chosen})
        for labels in product([False, True], repeat=len(used))
    )
    kept = {value.node for value in choose_frontier(graph, bindings)}
    early, pending = set[fx.Node](), list(kept)
    while pending:
        node = pending.pop()
        if node in nodes and node not in early:
            early.add(node)
            pending.extend(node.all_input_nodes)
    assert cost(early) <= best * (1 + 1e-6)
