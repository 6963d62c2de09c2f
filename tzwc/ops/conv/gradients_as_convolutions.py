"""Gradients of a convolution as forward convolutions of their own.

With ``y[t] = Σ_j w[j] · x[s·t + d·j - l]`` and the gradient ``g`` of ``y``:

- **input**: ``dx[u] = Σ_j w[j] · g'[u + l - d·j]``, where ``g'[s·t] = g[t]`` and zero elsewhere: a convolution of
  stride 1 with the reversed taps, the same dilation and ``d·(K - 1) - l`` zeros in front; a group's input and output
  channels change places.
- **weight**: ``dw[j] = Σ_t g[t] · x[s·t + d·j - l]``: the gradient's elements are the taps, stride and dilation change
  places. Samples are summed, so they are the input channels of this convolution, and a group's channels its samples.
  With one kernel for each sample nothing is summed, and it is a per-sample convolution.

Circular padding stays circular, unless the input gradient has a stride or another length than the input: then it is
computed for the input with its periods written out, which are summed in the end.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from tzwc.ops.conv.padding import padded_lengths, unpad
from tzwc.ops.conv.problem import Problem

__all__ = ["by_forward_form", "forward_form", "forward_operands", "forward_result", "stuffed"]


def by_forward_form(
    problem: Problem,
    prepare: Callable[[Problem, Tensor], Tensor],
    run: Callable[[Problem, Tensor, Tensor], Tensor],
    a: Tensor,
    b: Tensor,
) -> Tensor:
    """The result of ``problem`` by the halves of an algorithm for forward problems."""
    form = forward_form(problem)
    x, kernel = forward_operands(problem, a, b)
    return forward_result(problem, run(form, x, prepare(form, kernel)))


def _writes_periods(problem: Problem) -> bool:
    """Whether the input gradient goes through the input with its periods written out."""
    plain = max(problem.stride) == 1 and problem.out == problem.lengths
    return problem.padding_mode == "circular" and not plain


def _without_periods(problem: Problem) -> Problem:
    return problem.with_(lengths=padded_lengths(problem), padding=((0, 0),) * problem.axes, padding_mode="zeros")


def stuffed(problem: Problem) -> tuple[int, ...]:
    """Lengths of the output gradient with ``stride - 1`` zeros between its elements."""
    return tuple(step * (out - 1) + 1 for step, out in zip(problem.stride, problem.out, strict=True))


def forward_form(problem: Problem) -> Problem:
    """The forward convolution that gives the result of ``problem``, whatever its direction."""
    if problem.direction == "forward":
        return problem
    if problem.direction == "weight_gradient":
        return _weight_form(problem)
    if _writes_periods(problem):
        problem = _without_periods(problem)
    lengths, padding = stuffed(problem), []
    for axis, reach in enumerate(problem.reach):
        before = reach - 1 - problem.padding[axis][0]
        padding.append((before, problem.lengths[axis] + reach - 1 - lengths[axis] - before))
    return problem.with_(
        direction="forward",
        in_channels=problem.out_channels,
        out_channels=problem.in_channels,
        lengths=lengths,
        padding=tuple(padding),
        stride=(1,) * problem.axes,
        flip=not problem.flip,
    )


def _weight_form(problem: Problem) -> Problem:
    padding = []
    for axis, out in enumerate(problem.out):
        before = problem.padding[axis][0]
        last = problem.stride[axis] * (out - 1) + problem.reach[axis]
        padding.append((before, last - problem.lengths[axis] - before))
    common = problem.with_(
        direction="forward",
        kernel=problem.out,
        padding=tuple(padding),
        stride=problem.dilation,
        dilation=problem.stride,
        flip=False,
        static_kernel=False,
        channels_last=False,
    )
    if problem.per_sample:
        return common
    return common.with_(batch=problem.fan_in, in_channels=problem.groups * max(problem.batch, 1))


def forward_operands(problem: Problem, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Input and kernel of :func:`forward_form`, from the operands of ``problem``.

    Args:
        problem: any direction; its batch size is not read.
        a: input, `(B, C, *S)`; for the input gradient, the gradient of the output, `(B, O, *out)`.
        b: kernel; for the weight gradient, the gradient of the output.
    """
    if problem.direction == "input_gradient":
        return _stuff(problem, a), _transposed(problem, b)
    if problem.direction == "weight_gradient" and not problem.per_sample:
        return _exchanged(problem, a, b)
    return a, b


def _stuff(problem: Problem, gradient: Tensor) -> Tensor:
    for axis, step in enumerate(problem.stride):
        if step > 1:
            spread = F.pad(gradient.unsqueeze(3 + axis), (0, 0) * (problem.axes - 1 - axis) + (0, step - 1))
            gradient = spread.flatten(2 + axis, 3 + axis).narrow(2 + axis, 0, stuffed(problem)[axis])
    return gradient


def _transposed(problem: Problem, kernel: Tensor) -> Tensor:
    """`(O, C / G, *K)` as `(C, O / G, *K)`; nothing to do where every group has one channel on both sides."""
    if problem.per_sample or problem.is_depthwise:
        return kernel
    split = torch.unflatten(kernel, 0, (problem.groups, -1)).transpose(1, 2)
    return split.reshape(problem.in_channels, -1, *problem.kernel)


def _exchanged(problem: Problem, x: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
    batch, groups = x.shape[0], problem.groups
    spatial = range(3, 3 + problem.axes)
    rows = x.reshape(batch, groups, problem.fan_in, *problem.lengths).permute(2, 1, 0, *spatial)
    taps = gradient.reshape(batch, groups, problem.out_channels // groups, *problem.out).permute(1, 2, 0, *spatial)
    return (
        rows.reshape(problem.fan_in, groups * batch, *problem.lengths),
        taps.reshape(problem.out_channels, batch, *problem.out),
    )


def forward_result(problem: Problem, y: Tensor) -> Tensor:
    """The result of ``problem`` from that of its :func:`forward_form`."""
    if problem.direction == "input_gradient":
        return unpad(problem, y) if _writes_periods(problem) else y
    if problem.direction == "weight_gradient":
        y = y if problem.per_sample else y.transpose(0, 1)
        return y.flip(tuple(range(2, 2 + problem.axes))) if problem.flip else y
    return y
