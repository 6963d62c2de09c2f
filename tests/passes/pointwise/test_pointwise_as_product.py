"""1×1 convolutions become matrix products where they pay, and nothing else does."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tests.support.pass_testing import as_tuple, assert_unchanged, capture_function, code, double, remarks
from tzwc.passes import by_name
from tzwc.rewrite.pass_manager import PassContext

PASSES = ("normalize", "cse", "pointwise_as_product")
C, OUT = 3, 5


def _weight(axes, bias=True):
    return [double(OUT, C, *(1,) * axes), *([double(OUT)] if bias else [])]


SPELLINGS = {
    "conv1d": (1, lambda w, b, x: F.conv1d(x, w, b)),
    "conv2d": (2, lambda w, b, x: F.conv2d(x, w, b)),
    "conv3d": (3, lambda w, b, x: F.conv3d(x, w, b)),
    "no bias": (2, lambda w, b, x: F.conv2d(x, w) * b.sum()),
    "padding word": (2, lambda w, b, x: F.conv2d(x, w, b, padding="same")),
    "dilation of one tap": (2, lambda w, b, x: F.conv2d(x, w, b, dilation=3)),
    "torch.convolution": (2, lambda w, b, x: torch.convolution(x, w, b, [1, 1], [0, 0], [1, 1], False, [0, 0], 1)),
    "weight of the input": (2, lambda w, b, x: F.conv2d(x, w * x.mean(), b)),
    "weight of a smaller rank": (2, lambda w, b, x: F.conv2d(x, w[:, :, 0, 0][..., None, None], b)),
}


def _grid(axes):
    return {1: (70,), 2: (8, 9), 3: (4, 5, 4)}[axes]


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("batch", [1, 3])
def test_a_convolution_becomes_a_product(spelling, batch):
    axes, function = SPELLINGS[spelling]
    program = capture_function(function, _weight(axes), double(batch, C, *_grid(axes)))
    stages = program.run(*PASSES)
    counts = program.counts()
    assert counts["aten.matmul.default"] == 1
    assert not any("conv" in name for name in counts)
    assert remarks(stages, "applied", "product")
    assert_unchanged(program)


def test_every_batch_size_is_served_by_one_graph():
    program = capture_function(SPELLINGS["conv2d"][1], _weight(2), double(3, C, 8, 9))
    program.run(*PASSES)
    for batch in (2, 7):
        assert_unchanged(program, double(batch, C, 8, 9))
    assert as_tuple(program.evaluate(double(0, C, 8, 9)))[0].shape == (0, OUT, 8, 9)


MISSES = {
    "three taps": (lambda w, b, x: F.conv2d(x, w.expand(-1, -1, 3, 3), b), None),
    "stride": (lambda w, b, x: F.conv2d(x, w, b, stride=2), "stride or padding"),
    "padding": (lambda w, b, x: F.conv2d(x, w, b, padding=1), "stride or padding"),
    "groups": (lambda w, b, x: F.conv2d(x, w[:3, :1], b[:3], groups=3), "3 groups"),
    "transposed": (lambda w, b, x: F.conv_transpose2d(x, w.transpose(0, 1), b), None),
    "bfloat16": (lambda w, b, x: F.conv2d(x.bfloat16(), w.bfloat16(), b.bfloat16()), "not in float32"),
    "few points": (lambda w, b, x: F.conv2d(x[:, :, :1], w, b), "9 points a sample"),
    "channels last": (
        lambda w, b, x: F.conv2d(F.linear(x.movedim(1, -1), w[:C, :, 0, 0]).movedim(-1, 1), w, b),
        "its grid in",
    ),
    "sine": (lambda w, b, x: torch.sin(2.0 * F.conv2d(x, w, b) + 1), "argument of a sine"),
    "no samples axis": (lambda w, b, x: F.conv2d(x[0], w, b), None),
    "static": (lambda w, b, x: F.conv2d(b.reshape(1, -1, 1, 1)[:, :C].expand(-1, -1, 8, 9), w, b) + x.mean(), None),
}


@pytest.mark.parametrize("case", MISSES)
def test_near_misses(case):
    function, reason = MISSES[case]
    program = capture_function(function, _weight(2), double(3, C, 8, 9))
    stages = program.run(*PASSES)
    assert not any("matmul" in name for name in program.counts())
    said = [r.reason for r in remarks(stages, "declined", "product")]
    assert any(reason in s for s in said) if reason else not said, said
    assert_unchanged(program, differentiate=case != "bfloat16")


def test_memory_that_is_written_to_is_left_alone():
    def function(w, b, x):
        y = F.conv2d(x, w, b)
        y[0].zero_()
        return y * 2

    program = capture_function(function, _weight(2), double(3, C, 8, 9))
    stages = program.run(*PASSES)
    assert program.counts()["aten.conv2d.default"] == 1
    assert "writes to" in remarks(stages, "declined", "product")[0].reason
    assert_unchanged(program)


def test_what_is_returned_is_laid_out_as_before():
    program = capture_function(lambda w, b, x: F.conv2d(x, w, b), _weight(2), double(3, C, 8, 9))
    program.run(*PASSES)
    (found,), expected = program.evaluate(*program.inputs), program.model(*program.inputs)
    assert found.stride() == expected.stride()
    assert found.untyped_storage().nbytes() == expected.untyped_storage().nbytes()


def test_a_rewrite_that_is_not_admitted_is_left_alone():
    program = capture_function(
        lambda w, b, x: F.conv2d(x, w, b).relu() + F.conv2d(x, w), _weight(2), double(3, C, 8, 9)
    )
    context = PassContext("pointwise_as_product", {}, program.slot_names, chooser=lambda r: r.node == "conv2d_1")
    by_name("pointwise_as_product").run(program.module, context)
    assert program.counts()["aten.conv2d.default"] == 1
    assert [r.nodes for r in context.remarks] == [("conv2d_1",)]


def test_running_twice_changes_nothing_more():
    program = capture_function(SPELLINGS["conv2d"][1], _weight(2), double(3, C, 8, 9))
    program.run(*PASSES)
    before = code(program.module)
    program.run("pointwise_as_product")
    assert code(program.module) == before


@settings(max_examples=10, deadline=None)
@given(
    batch=st.integers(1, 3),
    channels=st.lists(st.integers(1, 5), min_size=2, max_size=4),
    grid=st.lists(st.integers(1, 12), min_size=1, max_size=2),
    seed=st.integers(0, 2**16),
)
def test_chains_of_convolutions_keep_results_and_gradients(batch, channels, grid, seed):
    torch.manual_seed(seed)
    layer = (nn.Conv1d, nn.Conv2d)[len(grid) - 1]
    layers = [layer(a, b, 1).double() for a, b in pairwise(channels)]
    parameters = [p for m in layers for p in m.parameters()]

    def function(*arguments):
        *weights, x = arguments
        for i, m in enumerate(layers):
            x = torch.tanh(m._conv_forward(x, weights[2 * i], weights[2 * i + 1]))
        return x

    program = capture_function(function, parameters, double(batch, channels[0], *grid))
    program.run(*PASSES)
    # Each output sums at most five products a layer in another order: a few eps of the largest, far below 64.
    assert_unchanged(program)
