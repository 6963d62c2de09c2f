"""Questions and edits that all passes share: what may go, what may take the place of what."""

from __future__ import annotations

import operator

import pytest
import torch
from torch import Tensor, fx, nn

import tzwc
from tests.support.faithful import X
from tzwc.ir.graph import insert_call, is_pure, remove_dead_code, replace_node
from tzwc.partition.binding_time import analyse

aten = torch.ops.aten


_EFFECTFUL = (
    aten.bernoulli.default,
    aten._assert_async.default,
    torch.ops.profiler._record_function_enter_new.default,
    torch.ops.higher_order.print,
)


def _calls(*targets: object) -> fx.Graph:
    """Calls that nothing uses."""
    graph = fx.Graph()
    x = graph.placeholder("x")
    graph.get_attr("table")
    for target in targets:
        graph.call_function(target, (x,))  # type: ignore[arg-type]
    graph.output((x,))
    return graph


def test_what_has_an_effect_is_no_dead_code() -> None:
    effectful = (*_EFFECTFUL, aten.sin_.default)
    graph = _calls(aten.sin.default, operator.neg, *effectful)
    calls = [node for node in graph.nodes if node.op == "call_function"]
    assert list(map(is_pure, calls)) == [True, True, *(False for _ in effectful)]
    remove_dead_code(graph)
    assert [node.target for node in graph.nodes] == ["x", *effectful, "output"]


def test_what_has_an_effect_is_not_static() -> None:
    bindings = analyse(_calls(aten.sin.default, *_EFFECTFUL), frozenset("x"))
    reasons = {node.target: binding.reason for node, binding in bindings.items()}
    assert reasons.pop("x") == "parameter, buffer or constant"
    assert reasons.pop("table") == "get_attr is not a call"
    assert reasons.pop(aten.sin.default) == "follows from static values"
    assert reasons.pop(aten.bernoulli.default) == "draws random numbers"
    assert len(reasons) == 3
    assert all(reason.endswith("may have side effects") for reason in reasons.values())
    assert [node.target for node, binding in bindings.items() if binding.static] == ["x", aten.sin.default]


class _Extremes(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        values, indices = x.max(1)
        return values.sum() + indices, x.sin()


def _graph() -> tuple[fx.GraphModule, dict[str, fx.Node]]:
    module = tzwc.capture(_Extremes(), X).module
    return module, {node.name: node for node in module.graph.nodes}


def test_a_replacement_has_the_same_type() -> None:
    module, nodes = _graph()
    with module.graph.inserting_after(nodes["sin"]):
        cosine = insert_call(module.graph, aten.cos.default, (nodes["x"],), like=nodes["sin"], made_by="test/cos")
        rows = insert_call(module.graph, aten.sum.dim_IntList, (nodes["x"], [1]), like=nodes["sin"], made_by="test/sum")
        coarse = insert_call(
            module.graph,
            aten._to_copy.default,
            (nodes["x"],),
            {"dtype": torch.float32},
            like=nodes["sin"],
            made_by="test/to",
        )
    for wrong, said in (
        (rows, r"test/sum: sin is torch.float64\[.*, 6\] on cpu, its replacement .* is torch.float64\["),
        (coarse, "torch.float32"),
    ):
        with pytest.raises(tzwc.PassError, match=said):
            replace_node(nodes["sin"], wrong)
        assert nodes["sin"].users
    replace_node(nodes["sin"], cosine)
    module.recompile()
    assert torch.equal(module(X)[1], X.cos())


def test_results_that_are_tuples_are_replaced_whole() -> None:
    module, nodes = _graph()
    largest = nodes["max_1"]
    with module.graph.inserting_before(largest):
        smallest = insert_call(module.graph, aten.min.dim, (nodes["x"], 1), like=largest, made_by="test/min")
    replace_node(largest, smallest)
    module.recompile()
    values, indices = X.min(1)
    assert torch.equal(module(X)[0], values.sum() + indices)


def test_a_call_that_does_not_fit_names_the_rule() -> None:
    module, nodes = _graph()
    with (
        module.graph.inserting_after(nodes["sin"]),
        pytest.raises(tzwc.PassError, match=r"test/matmul: aten\.mm\.default rejects its arguments"),
    ):
        insert_call(module.graph, aten.mm.default, (nodes["x"], nodes["x"]), like=nodes["sin"], made_by="test/matmul")
