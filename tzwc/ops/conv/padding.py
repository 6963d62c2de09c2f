"""Padding written out: zeros, periods and crops in front of an algorithm that cannot pad so by itself."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from tzwc.ops.conv.problem import Problem

__all__ = ["is_padded", "pad", "padded_lengths", "unpad", "wrap"]


def is_padded(problem: Problem) -> bool:
    """Whether there is anything to pad or to crop."""
    return any(any(pair) for pair in problem.padding)


def padded_lengths(problem: Problem) -> tuple[int, ...]:
    """Sizes of the spatial axes after :func:`pad`."""
    return tuple(s + before + after for s, (before, after) in zip(problem.lengths, problem.padding, strict=True))


def pad(problem: Problem, x: Tensor) -> Tensor:
    """``x``, `(..., *S)`, with the padding of ``problem`` written out: `(..., *(S + l + r))`.

    Any number of periods and any crop is possible; ``torch.nn.functional.pad`` wraps around once only.
    """
    if not is_padded(problem):
        return x
    if problem.padding_mode == "circular":
        for axis in range(problem.axes):
            x = wrap(x, axis - problem.axes, problem.lengths[axis], *problem.padding[axis])
        return x
    return _with_zeros(x, problem.lengths, problem.padding)


def _with_zeros(x: Tensor, lengths: Sequence[int], padding: Sequence[tuple[int, int]]) -> Tensor:
    axes, flat = len(lengths), list[int]()
    for axis, (length, (before, after)) in enumerate(zip(lengths, padding, strict=True)):
        begin, end = max(-before, 0), length - max(-after, 0)
        if begin >= end:  # cropped away altogether: zeros are what remains
            sizes = (s + left + right for s, (left, right) in zip(lengths, padding, strict=True))
            return x.new_zeros((*x.shape[:-axes], *sizes))
        if end - begin < length:
            x = x.narrow(axis - axes, begin, end - begin)
        flat = [max(before, 0), max(after, 0), *flat]
    return F.pad(x, flat) if any(flat) else x


def wrap(x: Tensor, axis: int, length: int, before: int, after: int) -> Tensor:
    """``x`` continued periodically, from ``-before`` to ``length + after`` along ``axis``."""
    pieces, position = [], -before
    while position < length + after:
        begin = position % length
        end = min(length, begin + length + after - position)
        pieces.append(x.narrow(axis, begin, end - begin))
        position += end - begin
    return torch.cat(pieces, axis) if len(pieces) > 1 else pieces[0]


def unpad(problem: Problem, gradient: Tensor) -> Tensor:
    """The adjoint of :func:`pad`: `(..., *(S + l + r))` to `(..., *S)`; circular periods are summed."""
    if not is_padded(problem):
        return gradient
    if problem.padding_mode == "zeros":
        return _with_zeros(gradient, padded_lengths(problem), [(-a, -b) for a, b in problem.padding])
    for axis in range(problem.axes):
        length, (before, _) = problem.lengths[axis], problem.padding[axis]
        at = axis - problem.axes
        size = gradient.shape[at]
        shift = -before % length  # so that a period of the input begins at a multiple of its length
        periods = -(-(shift + size) // length)
        trailing = (0, 0) * (-at - 1)
        rows = F.pad(gradient, (*trailing, shift, periods * length - shift - size))
        gradient = torch.unflatten(rows, at, (periods, length)).sum(at - 1)
    return gradient
