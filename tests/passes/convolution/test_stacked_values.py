"""Values that share a kernel are convolved as one batch on a GPU, and read where they were written for it."""

from __future__ import annotations

import operator

import pytest
import torch

import tzwc.ir.roofline
from tests.support.pass_testing import Program, assert_unchanged, capture, code, double, remarks
from tzwc.models import operators
from tzwc.passes.convolution import stacked_values

PASSES = ("normalize", "cse", "fuse_hyperzzw", "select_convolution")
CONVOLUTION = "conv.operator.convolution"


@pytest.fixture(autouse=True)
def _as_on_a_gpu(monkeypatch):
    """Let the pass see the CPU as a device where starting a kernel takes long, which is where it stacks."""
    monkeypatch.setattr(stacked_values, "DEVICES", ("cpu",))
    monkeypatch.setitem(tzwc.ir.roofline.MACHINES, "cpu", tzwc.ir.roofline.MACHINES["cuda"])
    torch.manual_seed(0)


def _captured(function, x, dynamic=False):
    """The program, with a kernel for the two channels of ``x``, which follow the samples."""
    return capture(Program(function, [double(1, *x.shape[x.shape.index(2) :])]), x, dynamic=dynamic)


def _three(k, x, padding="same"):
    w = x * k
    first, second, third = torch.tanh(x), torch.sin(x), torch.exp(-x)
    found = [operators.convolve(w, value, padding) for value in (first, second, third)]
    return found[0] * second + found[1] * first.sum(-1, keepdim=True), torch.cat([found[2], third], 1)


@pytest.mark.parametrize("sizes", [(12,), (7,), (6, 5)])
@pytest.mark.parametrize("padding", ["same", "causal"])
@pytest.mark.parametrize("grad", [False, True])
def test_one_batch_of_images(sizes, padding, grad):
    program = _captured(lambda k, x: _three(k, x, padding), double(3, 2, *sizes))
    stages = program.run(*PASSES, grad=grad)
    assert program.counts()[CONVOLUTION] == 1
    (remark,) = remarks(stages, "applied", "stack")
    assert remark.reason == "3 values that share a kernel are convolved as one batch"
    assert_unchanged(program)
    before = code(program.module)
    program.run(*PASSES, grad=grad)
    assert code(program.module) == before


def test_others_read_a_value_where_it_was_written_for_the_convolution():
    program = _captured(_three, double(3, 2, 12))
    program.run(*PASSES)
    (rows,) = [n for n in program.module.graph.nodes if n.target is torch.ops.aten.cat.default and n.args[1:] == ()]
    first, second, third = rows.args[0]
    assert list(first.users) == list(second.users) == [rows]
    # A concatenation is written where its parts are computed.
    assert [user.target for user in third.users] == [torch.ops.aten.cat.default] * 2


def _two(k, x):
    w = x * k
    return operators.convolve(w, torch.tanh(x)), operators.convolve(w, torch.sin(x))


def _returned(k, x):
    w, value = x * k, torch.tanh(x)
    return operators.convolve(w, value) * value.exp(), operators.convolve(w, torch.sin(x)), value


def _needed_before(k, x):
    w, value = x * k, torch.tanh(x)
    return operators.convolve(w, value), operators.convolve(w, torch.sin(value))


@pytest.mark.parametrize(
    ("function", "kept"),
    [(_returned, {"exp", "output"}), (_needed_before, {"sin"})],
    ids=["returned", "needed before"],
)
def test_who_must_read_the_value_itself(function, kept):
    program = _captured(function, double(3, 2, 12))
    program.run(*PASSES)
    assert program.counts()[CONVOLUTION] == 1
    (value,) = [n for n in program.module.graph.nodes if n.target is torch.ops.aten.tanh.default]
    assert kept <= {user.name for user in value.users}
    assert_unchanged(program)


def _inputs(k, x):
    w = torch.tanh(x[0] * k) * k
    return operators.convolve(w, x[1]), operators.convolve(w, x[2])


def _twice(k, x):
    w, value = x * k, torch.tanh(x)
    return operators.convolve(w, value), operators.convolve(w, value, "causal")


def _one(k, x):
    return operators.convolve(x * k, torch.tanh(x))


def _one_after_the_other(k, x):
    w = x * k
    return operators.convolve(w, operators.convolve(w, torch.tanh(x)))


@pytest.mark.parametrize(
    ("function", "shape", "dynamic", "reason"),
    [
        (_inputs, (3, 3, 2, 12), False, "putting 2 values together costs"),
        (_two, (3, 2, 12), True, "the sizes of tanh are not known at capture"),
        (_twice, (3, 2, 12), False, None),  # another padding
        (_one, (3, 2, 12), False, None),
        (_one_after_the_other, (3, 2, 12), False, None),
    ],
    ids=["in memory already", "open batch", "another padding", "one value", "one after the other"],
)
def test_near_misses(function, shape, dynamic, reason):
    program = _captured(function, double(*shape), dynamic)
    stages = program.run(*PASSES)
    assert not remarks(stages, "applied", "stack")
    declined = [remark.reason for remark in remarks(stages, "declined", "stack")]
    assert declined == [] if reason is None else declined[0].startswith(reason)
    assert_unchanged(program)


def test_on_a_cpu_nothing_is_stacked(monkeypatch):
    monkeypatch.setattr(stacked_values, "DEVICES", ("cuda",))
    program = _captured(_two, double(3, 2, 12))
    assert not remarks(program.run(*PASSES), "applied", "stack")


def test_parts_are_picked_from_one_split():
    program = _captured(_three, double(3, 2, 12))
    program.run(*PASSES)
    (split,) = [n for n in program.module.graph.nodes if n.target is torch.ops.aten.split.Tensor]
    assert {user.target for user in split.users} == {operator.getitem}
