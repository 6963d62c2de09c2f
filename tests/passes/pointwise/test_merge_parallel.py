"""Maps of one tensor, and maps whose sum is taken, become one where starting a kernel is dear; nothing else does."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from tests.support.merge_testing import PASSES, ROUNDINGS, B, C, N, captured, double, sum_of_two, three, used, weights
from tests.support.pass_testing import assert_unchanged, capture_function, remarks
from tzwc.passes.pointwise import parallel_maps

pytestmark = pytest.mark.usefixtures("as_on_a_gpu")


def _without_bias(w1, w2, x):
    return used(F.conv2d(x, w1), F.conv2d(x, w2))


def _one_bias(w1, b1, w2, b2, x):
    return (*used(F.conv2d(x, w1, b1), F.conv2d(x, w2)), b2 * 2)


def _flat(w1, b1, w2, b2, x):
    return used(F.conv1d(x.flatten(2), w1, b1), F.conv1d(x.flatten(2), w2, b2))


def _linear(w1, b1, w2, b2, x):
    rows = x.movedim(1, -1)
    return used(F.linear(rows, w1, b1), F.linear(rows, w2, b2))


def _one_after_the_other(w1, b1, w2, b2, x):
    """The second map comes after what reads the first one's result."""
    y = F.conv2d(x, w1, b1).relu().sum(1, keepdim=True)
    return y, torch.tanh(F.conv2d(x, w2, b2)) * y


SHARED = {
    "three": (three, weights((C, 5), (C, 2), (C, 3))),
    "no bias": (_without_bias, weights((C, 5), (C, 2), bias=False)),
    "one bias": (_one_bias, weights((C, 5), (C, 2))),
    "1-D": (_flat, weights((C, 5), (C, 2), axes=1)),
    "linear": (_linear, weights((C, 5), (C, 2), axes=0)),
    "uses between": (_one_after_the_other, weights((C, 5), (C, 2))),
}


def _maps(program):
    return sum(n for name, n in program.counts().items() if "conv" in name or "linear" in name or "matmul" in name)


@pytest.mark.parametrize("case", SHARED)
def test_maps_of_one_tensor_become_one(case):
    function, parameters = SHARED[case]
    program = capture_function(function, parameters, double(B, C, N, N))
    stages = program.run(*PASSES)
    assert _maps(program) == 1
    assert len(remarks(stages, "applied", "shared")) == 1
    assert_unchanged(program, factor=ROUNDINGS)
    assert_unchanged(program, double(B + 2, C, N, N), factor=ROUNDINGS)


def test_what_becomes_of_one_map_may_be_merged_again():
    def function(w1, b1, w2, b2, w3, b3, x):
        y = F.conv2d(x, w1, b1)
        return used(y * F.conv2d(x, w1 * 2, b1), F.conv2d(y, w2, b2), F.conv2d(y, w3, b3))

    program = capture_function(function, weights((C, 5), (5, 2), (5, 3)), double(B, C, N, N))
    program.run(*PASSES)
    assert _maps(program) == 2
    assert_unchanged(program, factor=ROUNDINGS)


SHARED_MISSES = {
    "other tensors": (
        lambda w1, b1, w2, b2, x: used(F.conv2d(x, w1, b1), F.conv2d(x * 2, w2, b2)),
        weights((C, 5), (C, 2)),
        None,
    ),
    "three taps": (
        lambda w1, b1, w2, b2, x: used(F.conv2d(x, w1, b1), F.conv2d(x, w2.expand(-1, -1, 3, 3), b2)),
        weights((C, 5), (C, 2)),
        None,
    ),
    "stride": (
        lambda w1, b1, w2, b2, x: used(F.conv2d(x, w1, b1), F.conv2d(x, w2, b2, stride=2)),
        weights((C, 5), (C, 2)),
        None,
    ),
    "groups": (
        lambda w1, b1, w2, b2, x: used(F.conv2d(x, w1, b1), F.conv2d(x, w2[:, :1], b2, groups=C)),
        weights((C, 5), (C, C)),
        None,
    ),
    "convolution and linear": (
        lambda w1, b1, w2, b2, x: used(F.conv2d(x, w1, b1), F.linear(x, w2[..., 0, 0], b2)),
        weights((C, 5), (N, 2)),
        None,
    ),
    "returned": (
        lambda w1, b1, w2, b2, x: (F.conv2d(x, w1, b1), torch.tanh(F.conv2d(x, w2, b2))),
        weights((C, 5), (C, 2)),
        "may be returned",
    ),
    "a view returned": (
        lambda w1, b1, w2, b2, x: (F.conv2d(x, w1, b1)[0], torch.tanh(F.conv2d(x, w2, b2))),
        weights((C, 5), (C, 2)),
        "may be returned",
    ),
    "strides": (
        lambda w1, b1, w2, b2, x: used(
            F.conv2d(x, w1, b1).as_strided((2, 2), (1, 2)), F.conv2d(x, w2, b2).as_strided((2, 2), (1, 2))
        ),
        weights((C, 5), (C, 2)),
        "may count on its layout",
    ),
    "sine": (
        lambda w1, b1, w2, b2, x: (torch.sin(3 * F.conv2d(x, w1, b1)), torch.tanh(F.conv2d(x, w2, b2))),
        weights((C, 5), (C, 2)),
        "argument of a sine",
    ),
    "weight of the other result": (
        lambda w1, b1, w2, b2, x: used(y := F.conv2d(x, w1, b1), F.conv2d(x, w2 * y.tanh().mean(), b2)),
        weights((C, 5), (C, 2)),
        None,
    ),
    "weights of every call": (
        lambda w1, b1, w2, b2, x: used(F.conv2d(x, w1 * x.mean(), b1), F.conv2d(x, w2 * x.std(), b2)),
        weights((C, 5), (C, 2)),
        "more than it saves",
    ),
    "static": (
        lambda w1, b1, w2, b2, x: used(
            F.conv2d(b1.reshape(1, -1, 1, 1), w1, b1) + x.mean(), F.conv2d(b1.reshape(1, -1, 1, 1), w2, b2)
        ),
        weights((C, C), (C, 2)),
        None,
    ),
}


@pytest.mark.parametrize("case", SHARED_MISSES)
def test_near_misses_of_maps_of_one_tensor(case):
    function, parameters, reason = SHARED_MISSES[case]
    program = captured(function, parameters, double(B, C, N, N), case != "strides")
    stages = program.run(*PASSES)
    assert not remarks(stages, "applied")[len(remarks(stages[:-1], "applied")) :]
    said = [r.reason for r in remarks(stages, "declined", "shared")]
    assert any(reason in s for s in said) if reason else not said, said
    assert_unchanged(program, factor=ROUNDINGS)


def test_on_a_device_where_calls_start_at_no_cost_nothing_is_merged(monkeypatch):
    monkeypatch.setattr(parallel_maps, "DEVICES", ("cuda",))
    function, parameters = SHARED["three"]
    program = capture_function(function, parameters, double(B, C, N, N))
    stages = program.run(*PASSES)
    assert program.counts()["aten.conv2d.default"] == 3
    assert "on cpu" in remarks(stages, "declined", "shared")[0].reason


def test_weights_of_every_call_are_merged_where_that_saves_more_than_it_costs():
    program = capture_function(_without_bias, weights((C, 5), (C, 2), bias=False), double(B, C, N, N))
    program.slot_names = frozenset()  # as in training: no parameter is constant
    program.run(*PASSES, grad=True)
    assert _maps(program) == 1  # x is larger than the weights
    assert_unchanged(program, factor=ROUNDINGS)


# --- a sum of two -----------------------------------------------------------------------------------------------------


SUMS = {
    "biases": (sum_of_two, weights((C, 5), (2, 5))),
    "no bias": (
        lambda w1, w2, x: F.conv2d(x.tanh(), w1) + F.conv2d(x[:, :2] * 2, w2),
        weights((C, 5), (2, 5), bias=False),
    ),
    "one bias": (
        lambda w1, b1, w2, b2, x: (F.conv2d(x.tanh(), w1) + F.conv2d(x[:, :2] * 2, w2, b2)) * b1.sum(),
        weights((C, 5), (2, 5)),
    ),
    "linear": (
        lambda w1, b1, w2, b2, x: (
            F.linear(x.movedim(1, -1) * 2, w1, b1) + F.linear(x[:, :2].movedim(1, -1) * 3, w2, b2)
        ),
        weights((C, 5), (2, 5), axes=0),
    ),
    "three": (
        lambda w1, b1, w2, b2, w3, b3, x: sum_of_two(w1, b1, w2, b2, x) + F.conv2d(x.exp(), w3, b3),
        weights((C, 5), (2, 5), (C, 5)),
    ),
    "of a concatenation": (
        lambda w1, b1, w2, b2, x: F.conv2d(torch.cat([x * 2, x.exp()], 1), w1, b1) + F.conv2d(x[:, :2] * 2, w2, b2),
        weights((2 * C, 5), (2, 5)),
    ),
}


@pytest.mark.parametrize("case", SUMS)
def test_a_sum_becomes_one_map(case):
    function, parameters = SUMS[case]
    program = capture_function(function, parameters, double(B, C, N, N))
    stages = program.run(*PASSES)
    assert _maps(program) == 1
    assert program.counts()["aten.cat.default"] - (len(parameters) // (1 if case == "no bias" else 2) - 1) == 1
    assert remarks(stages, "applied", "sum")
    assert_unchanged(program, factor=ROUNDINGS)
    assert_unchanged(program, double(B + 2, C, N, N), factor=ROUNDINGS)


SUM_MISSES = {
    "one tensor": (lambda w1, b1, w2, b2, x: F.conv2d(y := x.tanh(), w1, b1) + F.conv2d(y, w2, b2), None),
    "alpha": (
        lambda w1, b1, w2, b2, x: torch.add(F.conv2d(x.tanh(), w1, b1), F.conv2d(x * 2, w2, b2), alpha=2),
        None,
    ),
    "difference": (lambda w1, b1, w2, b2, x: F.conv2d(x.tanh(), w1, b1) - F.conv2d(x * 2, w2, b2), None),
    "broadcast": (
        lambda w1, b1, w2, b2, x: F.conv2d(x.tanh(), w1, b1) + F.conv2d(x[:, :, :1] * 2, w2, b2),
        None,
    ),
    "convolution and linear": (
        lambda w1, b1, w2, b2, x: (
            F.conv2d(x[..., :5].tanh(), w1, b1) + F.linear(x.repeat(1, 2, 1, 1)[:, :5, :, :C] * 2, w2[..., 0, 0], b2)
        ),
        None,
    ),
    "other dtype": (
        lambda w1, b1, w2, b2, x: F.conv2d(x.tanh(), w1, b1) + F.conv2d(x.float(), w2.float(), b2.float()),
        None,
    ),
    "used elsewhere": (
        lambda w1, b1, w2, b2, x: (y := F.conv2d(x.tanh(), w1, b1), y + F.conv2d(x * 2, w2, b2))[1] * y.sum(),
        None,
    ),
    "other maps of one": (
        lambda w1, b1, w2, b2, x: (
            F.conv2d(y := x.tanh(), w1, b1) + F.conv2d(x * 2, w2, b2),
            F.conv2d(y, w1 * 2, b1),
        ),
        "reads the same tensor",
    ),
    "in memory": (lambda w1, b1, w2, b2, x: F.conv2d(x, w1, b1) + F.conv2d(x[..., :], w2 * 2, b2), None),
    "sine": (
        lambda w1, b1, w2, b2, x: torch.sin(F.conv2d(x.tanh(), w1, b1) + F.conv2d(x * 2, w2, b2)),
        "argument of a sine",
    ),
    "of concatenated grids": (
        lambda w1, b1, w2, b2, x: (
            F.conv2d(torch.cat([x, x.exp()], 2), w1, b1) + F.conv2d(torch.cat([x, x * 2], 2), w2, b2)
        ),
        "more than it saves",
    ),
    "after a reduction": (
        lambda w1, b1, w2, b2, x: F.conv2d(F.instance_norm(x), w1, b1) + F.conv2d(torch.softmax(x, -1) * 2, w2, b2),
        "more than it saves",
    ),
}


@pytest.mark.parametrize("case", SUM_MISSES)
def test_near_misses_of_a_sum(case):
    function, reason = SUM_MISSES[case]
    program = capture_function(function, weights((C, 5), (C, 5)), double(B, C, N, N))
    stages = program.run(*PASSES)
    assert not remarks(stages, "applied", "sum")
    said = [r.reason for r in remarks(stages, "declined", "sum")]
    assert any(reason in s for s in said) if reason else not said, said
    assert_unchanged(program, factor=ROUNDINGS)
