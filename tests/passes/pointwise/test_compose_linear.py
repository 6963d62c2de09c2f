"""Two 1×1 convolutions in a row become one, and repeated channels are folded, where that saves multiplications."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from einops import repeat
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.pass_testing import assert_unchanged, capture_function, code, double, remarks
from tzwc.passes import by_name
from tzwc.rewrite.pass_manager import PassContext

PASSES = ("normalize", "cse", "compose_linear")
B, C, N = 3, 4, 6


def _pair(*channels, bias=True, axes=2):
    """Weights, and biases unless there are none, of convolutions from each number of channels to the next."""
    found = []
    for a, b in pairwise(channels):
        found += [double(b, a, *(1,) * axes)] + ([double(b)] if bias else [])
    return found


def _two(w1, b1, w2, b2, x):
    return F.conv2d(F.conv2d(x, w1, b1), w2, b2)


COMPOSED = {
    "conv2d": (_two, _pair(C, C, C)),
    "narrowing": (_two, _pair(C, 5, 2)),
    "no bias": (lambda w1, w2, x: F.conv2d(F.conv2d(x, w1), w2), _pair(C, C, C, bias=False)),
    "inner bias only": (lambda w1, b1, w2, b2, x: F.conv2d(F.conv2d(x, w1, b1), w2) * b2.sum(), _pair(C, C, C)),
    "outer bias only": (lambda w1, b1, w2, b2, x: F.conv2d(F.conv2d(x, w1), w2, b2) * b1.sum(), _pair(C, C, C)),
    "1-D": (
        lambda w1, b1, w2, b2, x: F.conv1d(F.conv1d(x.flatten(2), w1, b1), w2, b2),
        _pair(C, C, C, axes=1),
    ),
    "linear": (
        lambda w1, b1, w2, b2, x: F.linear(F.linear(x.movedim(1, -1), w1, b1), w2, b2),
        _pair(C, C, C, axes=0),
    ),
    "dropout off between": (
        lambda w1, b1, w2, b2, x: F.conv2d(F.dropout(F.conv2d(x, w1, b1), 0.5, training=False), w2, b2),
        _pair(C, C, C),
    ),
}


@pytest.mark.parametrize("spelling", COMPOSED)
def test_two_in_a_row_become_one(spelling):
    function, parameters = COMPOSED[spelling]
    program = capture_function(function, parameters, double(B, C, N, N))
    stages = program.run(*PASSES)
    calls = {name: n for name, n in program.counts().items() if "conv" in name or "linear" in name}
    assert sum(calls.values()) == 1, calls
    assert remarks(stages, "applied", "compose")[0].numbers["multiplications_saved"] > 0
    assert_unchanged(program)
    assert_unchanged(program, double(B + 2, C, N, N))


def test_a_chain_of_three_becomes_one():
    def function(w1, b1, w2, b2, w3, b3, x):
        return F.conv2d(F.conv2d(F.conv2d(x, w1, b1), w2, b2), w3, b3)

    program = capture_function(function, _pair(C, C, C, C), double(B, C, N, N))
    program.run(*PASSES)
    assert program.counts()["aten.conv2d.default"] == 1
    assert_unchanged(program)


def test_the_product_of_weights_varies_with_them():
    program = capture_function(_two, _pair(C, C, C), double(B, C, N, N))
    program.slot_names = frozenset()  # as in training: no parameter is constant
    program.run(*PASSES)
    assert program.counts()["aten.conv2d.default"] == 1
    assert_unchanged(program)


COMPOSE_MISSES = {
    "bottleneck": (_two, _pair(C, 1, C), "costs more than two by way of 1"),
    "used elsewhere": (
        lambda w1, b1, w2, b2, x: (y := F.conv2d(x, w1, b1), F.conv2d(y, w2, b2)),
        _pair(C, C, C),
        "while its result is used elsewhere",
    ),
    "something between": (
        lambda w1, b1, w2, b2, x: F.conv2d(F.conv2d(x, w1, b1).relu(), w2, b2),
        _pair(C, C, C),
        None,
    ),
    "three taps after": (
        lambda w1, b1, w2, b2, x: F.conv2d(F.conv2d(x, w1, b1), w2.expand(-1, -1, 3, 3), b2),
        _pair(C, C, C),
        None,
    ),
    "padding between": (
        lambda w1, b1, w2, b2, x: F.conv2d(F.conv2d(x, w1, b1, padding=1), w2, b2),
        _pair(C, C, C),
        None,
    ),
    "groups": (
        lambda w1, b1, w2, b2, x: F.conv2d(F.conv2d(x, w1[:, :1], b1, groups=C), w2, b2),
        _pair(C, C, C),
        None,
    ),
    "convolution and linear": (
        lambda w1, b1, w2, b2, x: F.linear(F.conv2d(x[..., :C], w1, b1), w2[..., 0, 0], b2),
        _pair(C, C, C),
        "the other linear",
    ),
    "sine": (
        lambda w1, b1, w2, b2, x: torch.sin(F.conv2d(F.conv2d(x, w1, b1), w2, b2) * 3.0),
        _pair(C, C, C),
        "argument of a sine",
    ),
    "weight of every call": (
        lambda w1, b1, w2, b2, x: F.conv2d(F.conv2d(x[..., :1, :1], w1 * x.mean(), b1), w2, b2),
        _pair(C, C, C),
        "vary from call to call",
    ),
}


def test_other_uses_are_named_only_where_there_are_any():
    function, parameters, _ = COMPOSE_MISSES["bottleneck"]
    program = capture_function(function, parameters, double(B, C, N, N))
    (remark,) = remarks(program.run(*PASSES), "declined", "compose")
    assert remark.reason.endswith("by way of 1")


@pytest.mark.parametrize("case", COMPOSE_MISSES)
def test_near_misses_of_two_in_a_row(case):
    function, parameters, reason = COMPOSE_MISSES[case]
    program = capture_function(function, parameters, double(B, C, N, N))
    before = program.counts()
    stages = program.run(*PASSES)
    assert not remarks(stages, "applied", "compose")
    said = [r.reason for r in remarks(stages, "declined", "compose")]
    assert any(reason in s for s in said) if reason else not said, said
    assert program.counts()["aten.conv2d.default"] == before["aten.conv2d.default"]
    assert_unchanged(program)


def test_a_map_to_a_single_number_is_left():
    program = capture_function(
        lambda w, v, x: F.linear(F.linear(x, w), v), [double(12, 8), double(12)], double(3, 5, 8)
    )
    assert not remarks(program.run(*PASSES), "applied", "compose")
    assert_unchanged(program)


@pytest.mark.parametrize("rule", ["compose", "repeat"])
def test_memory_that_is_written_to_is_left_alone(rule):
    def function(w1, b1, w2, b2, x):
        y = F.conv2d(x, w1, b1) if rule == "compose" else x.repeat(1, 1, 1, 1).repeat(1, 2, 1, 1)
        row = y[0]
        z = F.conv2d(y, w2 if rule == "compose" else w2.repeat(1, 2, 1, 1), b2)
        row.add_(1)
        return z, row

    program = capture_function(function, _pair(C, C, C), double(B, C, N, N))
    stages = program.run(*PASSES)
    assert "writes to" in remarks(stages, "declined", rule)[0].reason
    assert_unchanged(program, differentiate=False)  # autograd does not allow this write


def test_each_rewrite_can_be_held_back():
    def function(w1, b1, w2, b2, x):
        return _two(w1, b1, w2, b2, x) + _two(w1, b2, w2, b1, x.relu())

    program = capture_function(function, _pair(C, C, C), double(B, C, N, N))
    asked = []
    context = PassContext("c", {}, program.slot_names, chooser=lambda r: asked.append(str(r)) or len(asked) > 1)
    by_name("compose_linear").run(program.module, context)
    assert asked == ["compose@conv2d_1", "compose@conv2d_3"]
    assert program.counts()["aten.conv2d.default"] == 3


def test_running_twice_changes_nothing_more():
    program = capture_function(_two, _pair(C, C, C), double(B, C, N, N))
    program.run(*PASSES)
    before = code(program.module)
    program.run(*PASSES)
    assert code(program.module) == before


@settings(max_examples=12, deadline=None)
@given(
    channels=st.lists(st.integers(1, 6), min_size=3, max_size=4),
    times=st.integers(1, 3),
    tiled=st.booleans(),
    varying=st.booleans(),
    seed=st.integers(0, 2**16),
)
def test_results_and_gradients_are_kept(channels, times, tiled, varying, seed):
    torch.manual_seed(seed)
    channels[1:1] = [channels[0] * times]
    parameters = _pair(*channels[1:])
    pattern = "b c n -> b (r c) n 1" if tiled else "b c n -> b (c r) n 1"

    def function(*arguments):
        *weights, x = arguments
        x = repeat(x, pattern, r=times)
        for w, b in zip(weights[::2], weights[1::2], strict=True):
            x = F.conv2d(x, w, b)
        return x

    program = capture_function(function, parameters, double(2, channels[0], 5))
    program.slot_names = frozenset() if varying else program.slot_names
    program.run(*PASSES)
    # A product of three matrices whose sums run over at most 18 channels: its rounding error is at most about
    # 3 · 18 eps times the sum of the moduli, and that sum at most a few times the largest result.
    assert_unchanged(program, factor=512.0)
