"""Equal expressions are computed once, and only where nobody can tell."""

from __future__ import annotations

import operator

import pytest
import torch
from torch import fx

from tests.support.pass_testing import assert_unchanged, capture_function, code, remarks
from tzwc.passes.cse import merge_equal_calls
from tzwc.rewrite.pass_manager import PassContext

K, X = torch.randn(4, 5, dtype=torch.float64), torch.randn(3, 4, 5, dtype=torch.float64)


def test_equal_kernels_are_computed_once():
    program = capture_function(lambda k, x: x * torch.sin(k * 2 + 1) + (x + 1) * torch.sin(k * 2 + 1), [K], X)
    stages = program.run("cse")
    assert program.counts()["aten.sin.default"] == 1
    assert len(remarks(stages, "applied", "equal_calls")) == 3
    assert_unchanged(program)
    before = code(program.module)
    assert not remarks(program.run("cse"))
    assert code(program.module) == before


def test_factors_may_be_swapped():
    program = capture_function(lambda k, x: torch.tanh(k * x) + torch.sin(x * k), [K], X)
    program.run("cse")
    assert program.counts()["aten.mul.Tensor"] == 1
    assert_unchanged(program)


def test_one_of_two_equal_results_may_be_returned():
    program = capture_function(lambda _, x: (x.sin(), x.sin() + 1), [K], X)
    program.run("cse")
    assert program.counts()["aten.sin.default"] == 1
    assert_unchanged(program)


def _written(k, x):
    a, b = x * k, x * k
    a.add_(1)
    return a + b


def _undefined(_, x):
    """Whatever was in memory, and never chosen."""
    return torch.where(x == x, x, torch.empty_like(x)) + torch.where(x != x, torch.empty_like(x), x)


@pytest.mark.parametrize(
    ("function", "target", "count"),
    [
        (lambda _, x: torch.rand_like(x) + torch.rand_like(x), "aten.rand_like.default", 2),
        (lambda _, x: (x + 1) / (x + 1.0), "aten.add.Tensor", 2),
        (lambda _, x: (x * 0.0) - (x * -0.0), "aten.mul.Tensor", 2),
        (lambda k, x: (x - k) * (k - x), "aten.sub.Tensor", 2),
        (lambda _, x: (x.sin(), x.sin()), "aten.sin.default", 2),
        (_written, "aten.mul.Tensor", 2),
        (_undefined, "aten.empty_like.default", 2),
    ],
    ids=["random", "int and float", "signed zero", "not commutative", "both returned", "written to", "undefined"],
)
def test_what_only_looks_equal_stays(function, target, count):
    program = capture_function(function, [K], X)
    program.run("cse")
    assert program.counts()[target] == count
    if "rand" not in target:
        assert_unchanged(program)


def test_slices_are_equal_where_their_bounds_and_steps_are():
    graph = fx.Graph()
    x = graph.placeholder("x")
    parts = [slice(0, 4), slice(0, 4), slice(0, 4, 2), slice(1, 4), slice(0, None)]
    taken = [graph.call_function(operator.getitem, (x, (part,))) for part in parts]
    graph.output([graph.call_function(torch.ops.aten.sin.default, (node,)) for node in taken])
    x.meta["val"] = torch.randn(5)
    for node in taken:
        node.meta["val"] = x.meta["val"][node.args[1]]
    merge_equal_calls(graph, PassContext("test", {}, frozenset()))
    module = fx.GraphModule({}, graph)
    kept = [node.args[1][0] for node in graph.nodes if node.target is operator.getitem]
    assert kept == [slice(0, 4), slice(0, 4, 2), slice(1, 4), slice(0, None)]
    value = torch.randn(5, dtype=torch.float64)
    assert all(map(torch.equal, module(value), [value[part].sin() for part in parts]))
