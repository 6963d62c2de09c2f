"""Convolution with few taps as a sum of shifted products: ``y += w[j] · x[s·t + d·j]``, one pass for each tap.

Made for per-sample kernels, which PyTorch has no fast path for, and for compilers that fuse the passes into one.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from tzwc.ops.conv.algorithm import Algorithm, dtype_objection
from tzwc.ops.conv.algorithms.aten import taps
from tzwc.ops.conv.gradients_as_convolutions import by_forward_form, forward_form
from tzwc.ops.conv.padding import pad, padded_lengths
from tzwc.ops.conv.problem import Problem

__all__ = ["SHIFTS"]

MOST_TAPS = 128
"""With more, the passes over the output take longer than any other algorithm, and their compilation does as well."""


def _objection(problem: Problem) -> str | None:
    if (reason := dtype_objection(problem)) is not None:
        return reason
    if problem.fan_in > 1 or problem.out_channels > problem.in_channels:
        return "channels are mixed: every output channel must read one input channel of its own"
    if math.prod(problem.kernel) > MOST_TAPS:
        return f"kernel={problem.kernel} has more than {MOST_TAPS} taps, and each is a pass over the output"
    return None


def _windows(problem: Problem, x: Tensor) -> Iterator[tuple[tuple[int, ...], Tensor]]:
    """For each tap its place, and the part of the input that it meets, in the shape of the output."""
    values = pad(problem, x)
    for place in itertools.product(*map(range, problem.kernel)):
        part = values
        for axis, at in enumerate(place):
            begin, step = at * problem.dilation[axis], problem.stride[axis]
            part = part.narrow(2 + axis, begin, step * (problem.out[axis] - 1) + 1)
            if step > 1:
                part = torch.ops.aten.slice.Tensor(part, 2 + axis, None, None, step)
        yield place, part


def _prepare(problem: Problem, kernel: Tensor) -> Tensor:
    weights = taps(problem, kernel)
    return weights if problem.per_sample else weights.squeeze(1)


def _run(problem: Problem, x: Tensor, weights: Tensor) -> Tensor:
    result = None
    for place, part in _windows(problem, x):
        weight = weights
        for axis, at in enumerate(place):
            weight = weight.narrow(axis - problem.axes, at, 1)
        result = part * weight if result is None else torch.addcmul(result, part, weight)
    assert result is not None
    return result


def _gradient(problem: Problem, a: Tensor, b: Tensor) -> Tensor:
    if problem.direction == "input_gradient":
        return by_forward_form(problem, _prepare, _run, a, b)
    summed = (*(() if problem.per_sample else (0,)), *range(2, 2 + problem.axes))
    found = torch.stack([(part * b).sum(summed) for _, part in _windows(problem, a)], -1)
    lead = a.shape[:2] if problem.per_sample else (problem.out_channels, 1)
    return taps(problem, found.reshape(*lead, *problem.kernel))


def _work(problem: Problem) -> Mapping[str, float]:
    form = problem if problem.direction == "weight_gradient" else forward_form(problem)
    count, rows = math.prod(form.kernel), float(form.batch * form.in_channels)
    passes = rows * math.prod(form.out) * count
    kind = "reduced" if problem.direction == "weight_gradient" else "shifted"
    return {"calls": 1.0 + 2.0 * count, kind: passes, "moved": rows * math.prod(padded_lengths(form))}


SHIFTS = Algorithm(
    name="shifts",
    summary="one shifted product for each tap",
    objection=_objection,
    prepare=_prepare,
    run=_run,
    work=_work,
    exact=True,
    gradient=_gradient,
)
