"""Channels that occur several times are folded into the weight of a 1×1 convolution."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from einops import repeat

from tests.support.pass_testing import assert_unchanged, capture_function, code, double, remarks
from tzwc.passes import by_name
from tzwc.rewrite.pass_manager import PassContext

PASSES = ("normalize", "cse", "compose_linear")
B, C, N = 3, 4, 6


def _map(channels, results):
    """Weight and bias of a 1×1 convolution."""
    return [double(results, channels, 1, 1), double(results)]


REPEATS = {
    "einops, tiled": lambda y: repeat(y, "b c h w -> b (n c) h w", n=2),
    "einops, in turn": lambda y: repeat(y, "b c h w -> b (c n) h w", n=2),
    "Tensor.repeat": lambda y: y.repeat(1, 2, 1, 1),
    "repeat_interleave": lambda y: y.repeat_interleave(2, 1),
    "expand and flatten": lambda y: y.unsqueeze(1).expand(-1, 2, -1, -1, -1).flatten(1, 2),
    "expand and reshape, in turn": lambda y: y[:, :, None].expand(-1, -1, 2, -1, -1).reshape(-1, 2 * C, N, N),
    "torch.tile": lambda y: torch.tile(y, (1, 2, 1, 1)),
}


@pytest.mark.parametrize("spelling", REPEATS)
@pytest.mark.parametrize("concatenated", [False, True])
def test_repeated_channels_are_folded(spelling, concatenated):
    def function(w, b, x):
        wide = REPEATS[spelling](torch.tanh(x))
        wide = torch.cat([x, wide, x * 2], 1) if concatenated else wide
        return F.conv2d(wide, w[:, : wide.shape[1]], b)

    program = capture_function(function, _map(4 * C, 5), double(B, C, N, N))
    stages = program.run(*PASSES)
    (call,) = [n for n in program.module.graph.nodes if n.target is torch.ops.aten.conv2d.default]
    assert call.args[0].meta["val"].shape[1] == (3 * C if concatenated else C)
    assert remarks(stages, "applied", "repeat")[0].numbers == {"multiplications_saved": 5 * C}
    assert_unchanged(program)
    assert_unchanged(program, double(B + 1, C, N, N))


REPEAT_MISSES = {
    "repeated grid": (lambda w, b, x: F.conv2d(x.repeat(1, 1, 2, 1), w[:, :C], b), None),
    "repeated channels and grid": (lambda w, b, x: F.conv2d(x.repeat(1, 2, 2, 1), w[:, : 2 * C], b), None),
    "repeated samples": (lambda w, b, x: F.conv2d(x.repeat(2, 1, 1, 1), w[:, :C], b), None),
    "repeated once": (lambda w, b, x: F.conv2d(x.repeat(1, 1, 1, 1), w[:, :C], b), None),
    "interleaved grid": (lambda w, b, x: F.conv2d(x.repeat_interleave(2, 2), w[:, :C], b), None),
    "expanded samples": (
        lambda w, b, x: F.conv2d(x.expand(2, -1, -1, -1, -1).flatten(0, 1), w[:, :C], b),
        None,
    ),
    "expanded along two axes": (
        lambda w, b, x: F.conv2d(
            x[:, None, :, None].expand(-1, 2, -1, 2, -1, -1).reshape(-1, 2 * C, 2 * N, N), w[:, : 2 * C], b
        ),
        None,
    ),
    "regrouped before it is expanded": (
        lambda w, b, x: F.conv2d(
            x.reshape(-1, 1, C, N * N).expand(-1, 2, -1, -1).reshape(-1, 2 * C, N, N), w[:, : 2 * C], b
        ),
        None,
    ),
    "expanded grid": (
        lambda w, b, x: F.conv2d(x.unsqueeze(2).expand(-1, -1, 2, -1, -1).flatten(2, 3), w[:, :C], b),
        None,
    ),
    "three taps": (lambda w, b, x: F.conv2d(x.repeat(1, 2, 1, 1), w[:, : 2 * C].expand(-1, -1, 3, 3), b), None),
    "concatenation used elsewhere": (
        lambda w, b, x: (y := torch.cat([x, x.repeat(1, 2, 1, 1)], 1), F.conv2d(y, w[:, : 3 * C], b)),
        "a second concatenation",
    ),
    "concatenated grids": (
        lambda w, b, x: F.conv2d(torch.cat([x, x.repeat(1, 1, 2, 1)], 2), w[:, :C], b),
        None,
    ),
    "sine": (lambda w, b, x: torch.sin(F.conv2d(x.repeat(1, 2, 1, 1), w[:, : 2 * C], b)), "argument of a sine"),
    "one place, weight of every call": (
        lambda w, b, x: F.conv2d(x[..., :1, :1].repeat(1, 2, 1, 1), w[:, : 2 * C] * x.mean(), b),
        "varies from call to call",
    ),
}


@pytest.mark.parametrize("case", REPEAT_MISSES)
def test_near_misses_of_repeated_channels(case):
    function, reason = REPEAT_MISSES[case]
    program = capture_function(function, _map(4 * C, 5), double(B, C, N, N))
    stages = program.run(*PASSES)
    assert not remarks(stages, "applied", "repeat")
    said = [r.reason for r in remarks(stages, "declined", "repeat")]
    assert any(reason in s for s in said) if reason else not said, said
    assert_unchanged(program)


def test_a_fold_can_be_held_back():
    program = capture_function(lambda w, b, x: F.conv2d(x.repeat(1, 2, 1, 1), w, b), _map(2 * C, 5), double(B, C, N, N))
    before = code(program.module)
    asked = []
    context = PassContext("c", {}, program.slot_names, chooser=lambda r: asked.append(str(r)))
    by_name("compose_linear").run(program.module, context)
    assert asked == ["repeat@conv2d"]
    assert code(program.module) == before


def test_channels_of_open_numbers_are_left():
    """Only together with the other part of the concatenation are they as many as the map reads."""

    def function(w, b, x, y):
        return F.linear(torch.cat([x.T.repeat(1, 2), y.T], -1), w, b)

    program = capture_function(function, [double(5, 3 * C), double(5)], double(C, N), double(C, N))
    assert not remarks(program.run(*PASSES), rule="repeat")
    assert_unchanged(program)
    assert_unchanged(program, double(C + 1, N), double(C - 2, N))
