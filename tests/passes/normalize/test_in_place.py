"""In-place operators become functional ones where nobody else sees the memory, and stay elsewhere."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import fx
from torch._subclasses.fake_tensor import FakeTensorMode

import tzwc
from tests.support.pass_testing import assert_unchanged, capture_function, remarks
from tzwc.passes.normalize.in_place import remove_in_place
from tzwc.rewrite.pass_manager import PassContext

aten = torch.ops.aten
K, X = torch.randn(4, 5, dtype=torch.float64), torch.randn(3, 4, 5, dtype=torch.float64)

IN_PLACE = {
    "relu_": lambda k, x: torch.relu_(x * k) + x,
    "chain": lambda k, x: (x * k).mul_(2.0).add_(x).sigmoid_(),
    "read again afterwards": lambda k, x: _read_again(k, x),
    "masked_fill_": lambda k, x: (x * k).masked_fill_(x > 0, 2.0),
}


def _read_again(k, x):
    y = x * k
    before = y + 1
    y.add_(k)
    return before + y


@pytest.mark.parametrize("name", IN_PLACE)
def test_in_place_on_a_fresh_temporary_becomes_functional(name):
    program = capture_function(IN_PLACE[name], [K], X)
    stages = program.run("normalize")
    assert remarks(stages, "applied", "in_place")
    assert not any(target.split(".")[1].endswith("_") for target in program.counts() if target.startswith("aten"))
    assert_unchanged(program)


def _view_before(k, x):
    y = x * k
    row = y[0]
    y.add_(1)
    return row + y


def _part(k, x):
    y = x * k
    y[:, 0].add_(1)
    return y


@pytest.mark.parametrize("function", [_view_before, _part])
def test_in_place_with_other_views_is_left_with_a_reason(function):
    program = capture_function(function, [K], X)
    stages = program.run("normalize", "cse", "fuse_hyperzzw")
    assert "shares memory" in remarks(stages, "declined", "in_place")[0].reason
    assert_unchanged(program)


def test_in_place_where_the_result_would_get_another_dtype_is_left():
    program = capture_function(lambda k, x: (x.float() + 1).mul_(k) + 1, [K], X)
    stages = program.run("normalize")
    (remark,) = remarks(stages, "declined", "in_place")
    assert remark.reason == "aten.mul.Tensor would change shape or dtype"
    assert program.counts()["aten.mul_.Tensor"] == 1
    assert program.counts()["aten.mul.Tensor"] == 0
    assert torch.equal(program.evaluate(X)[0], program.model(X))


def test_in_place_can_be_held_back():
    program = capture_function(IN_PLACE["relu_"], [K], X)
    asked = []
    context = PassContext("n", {}, program.slot_names, chooser=lambda r: asked.append(str(r)))
    remove_in_place(program.module.graph, context)
    assert asked == ["in_place@relu_"]
    assert program.counts()["aten.relu_.default"] == 1


def test_a_temporary_that_is_read_by_its_old_name_has_the_new_value():
    graph = fx.Graph()
    with FakeTensorMode():
        x = graph.placeholder("x")
        before = graph.call_function(aten.mul.Tensor, (x, 2.0))
        early = graph.call_function(aten.sin.default, (before,))
        write = graph.call_function(aten.add_.Tensor, (before, 1.0))
        late = graph.call_function(aten.cos.default, (before,))
        graph.output((early, late, write))
        for node in graph.nodes:
            node.meta["val"] = torch.empty(3, dtype=torch.float64)
    remove_in_place(graph, PassContext("n", {}, frozenset()))
    graph.lint()
    assert not [n for n in graph.nodes if n.target is aten.add_.Tensor]
    value = torch.randn(3, dtype=torch.float64)
    expected = (value * 2.0).sin(), (value * 2.0 + 1.0).cos(), value * 2.0 + 1.0
    assert all(map(torch.equal, fx.GraphModule({}, graph)(value), expected))


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("aten.uniform_.default", lambda k, x: (x * k).uniform_() + k),
        ("aten.rrelu_.default", lambda k, x: F.rrelu_(x * k, training=True) + k),
        ("aten.resize_.default", lambda k, x: (x[0] * k.detach()).resize_(5, 4) + 1),
    ],
)
def test_in_place_that_draws_numbers_or_resizes_is_left(name, function):
    program = capture_function(function, [K], X)
    program.run("normalize")
    assert program.counts()[name] == 1
    with torch.no_grad():
        torch.manual_seed(0)
        (found,) = program.evaluate(X)
        torch.manual_seed(0)
        assert torch.equal(found, program.model(X))


@pytest.mark.parametrize("count", [1, 2])
def test_lists_written_in_place_are_left(count):
    def function(k, x):
        tensors = [x * k, x + k][:count]
        torch._foreach_mul_(tensors, 2.0)
        return sum(tensors)

    program = capture_function(function, [K], X)
    program.run("normalize")
    assert program.counts()["aten._foreach_mul_.Scalar"] == 1
    assert_unchanged(program, differentiate=False)


def test_a_copy_keeps_its_gradient() -> None:
    """``aten.copy`` has no derivative, so ``copy_`` must become something else."""

    class Overwrites(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.arange(1.0, 4.0))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = x * self.weight
            return y.copy_(y * self.weight)

    module = Overwrites()
    fast = tzwc.compile(module, backend="eager")
    fast(torch.full((3,), 2.0)).sum().backward()
    assert fast.level == "whole graph"
    assert torch.equal(module.weight.grad, 4 * module.weight.detach())
