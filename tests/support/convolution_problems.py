"""Convolutions drawn by hypothesis, their operands, and the same result written down directly."""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from hypothesis import strategies as st
from torch import Tensor

from tzwc.ops.conv import Problem


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    """All modes at once: padding may crop, kernels may be longer than the input, and axes may have one element."""
    axes = draw(st.sampled_from([1, 1, 2, 3]))
    longest = {1: 14, 2: 6, 3: 4}[axes]
    per_sample = draw(st.booleans())
    groups, fan_in, multiplier = draw(st.integers(1, 3)), draw(st.integers(1, 3)), draw(st.integers(1, 2))
    if per_sample or draw(st.booleans()):
        fan_in = multiplier = 1
    lengths = [draw(st.integers(1, longest)) for _ in range(axes)]
    kernel = [draw(st.integers(1, longest + 2)) for _ in range(axes)]
    strided, dilated, odd = (draw(st.booleans()) for _ in range(3))
    stride = [draw(st.integers(1, 3)) if strided else 1 for _ in range(axes)]
    dilation = [draw(st.integers(1, 3)) if dilated else 1 for _ in range(axes)]
    padding = []
    for length, count, apart in zip(lengths, kernel, dilation, strict=True):
        reach = apart * (count - 1) + 1
        before = draw(st.integers(-3, longest)) if odd else (reach - 1) // 2
        after = draw(st.integers(-3, longest)) if odd else reach // 2
        padding.append((before, max(after, reach - length - before)))
    return Problem(
        batch=draw(st.integers(1, 3)),
        in_channels=groups * fan_in,
        out_channels=groups * multiplier,
        groups=groups,
        lengths=tuple(lengths),
        kernel=tuple(kernel),
        padding=tuple(padding),
        padding_mode=draw(st.sampled_from(["zeros", "circular"])),
        stride=tuple(stride),
        dilation=tuple(dilation),
        flip=draw(st.booleans()),
        per_sample=per_sample,
        dtype=torch.float64,
    )


def kernel_shape(problem: Problem) -> tuple[int, ...]:
    lead = (problem.batch, problem.in_channels) if problem.per_sample else (problem.out_channels, problem.fan_in)
    return (*lead, *problem.kernel)


def numbers(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def operands(problem: Problem, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Input, kernel and gradient of the output."""
    return (
        numbers(problem.batch, problem.in_channels, *problem.lengths, dtype=problem.dtype, seed=seed),
        numbers(*kernel_shape(problem), dtype=problem.dtype, seed=seed + 1),
        numbers(problem.batch, problem.out_channels, *problem.out, dtype=problem.dtype, seed=seed + 2),
    )


def pair(direction: str, x: Tensor, kernel: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
    """The operands of one direction."""
    return {"forward": (x, kernel), "input_gradient": (gradient, kernel), "weight_gradient": (x, gradient)}[direction]


def reference(problem: Problem, x: Tensor, kernel: Tensor) -> Tensor:
    """The convolution of an input that was padded index by index."""
    for axis, (length, (before, after)) in enumerate(zip(problem.lengths, problem.padding, strict=True)):
        at = torch.arange(-before, length + after)
        inside = ((at >= 0) & (at < length)) | (problem.padding_mode == "circular")
        x = x.index_select(2 + axis, at % length) * inside.reshape(-1, *(1,) * (problem.axes - 1 - axis))
    if problem.flip:
        kernel = kernel.flip(tuple(range(2, 2 + problem.axes)))
    function = (F.conv1d, F.conv2d, F.conv3d)[problem.axes - 1]
    if not problem.per_sample:
        return function(x, kernel, None, problem.stride, 0, problem.dilation, problem.groups)
    rows = [
        function(one[None], taps[:, None], None, problem.stride, 0, problem.dilation, problem.in_channels)
        for one, taps in zip(x, kernel, strict=True)
    ]
    return torch.cat(rows)


def loop(problem: Problem, x: Tensor, kernel: Tensor) -> Tensor:
    """The formula of :class:`tzwc.ops.conv.Problem`, one product at a time."""
    y = torch.zeros(problem.batch, problem.out_channels, *problem.out, dtype=x.dtype)
    share = problem.out_channels // problem.groups
    sizes = (problem.batch, problem.out_channels, problem.fan_in)
    for b, o, i in itertools.product(*map(range, sizes)):
        taps = kernel[b, o] if problem.per_sample else kernel[o, i]
        channel = x[b, o // share * problem.fan_in + i]
        for t, j in itertools.product(
            itertools.product(*map(range, problem.out)), itertools.product(*map(range, problem.kernel))
        ):
            places = [
                s * tt + d * jj - before
                for s, tt, d, jj, (before, _) in zip(
                    problem.stride, t, problem.dilation, j, problem.padding, strict=True
                )
            ]
            if problem.padding_mode == "circular":
                places = [p % length for p, length in zip(places, problem.lengths, strict=True)]
            elif any(not 0 <= p < length for p, length in zip(places, problem.lengths, strict=True)):
                continue
            tap = tuple(k - 1 - jj for k, jj in zip(problem.kernel, j, strict=True)) if problem.flip else j
            y[(b, o, *t)] += taps[tap] * channel[tuple(places)]
    return y


def same(batch: int, channels: int, length: int, taps: int, **changes: object) -> Problem:
    """A depthwise 1-D problem of float64 with the padding that keeps the length."""
    padding = (((taps - 1) // 2, taps // 2),)
    return Problem(batch, channels, channels, channels, (length,), (taps,), padding, dtype=torch.float64).with_(
        **changes
    )
