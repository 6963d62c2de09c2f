"""Convolution as a matrix product: of one tap, of the windows of the input, and with the kernel written out.

``unfold`` copies every window of the input into a column, and multiplies with the taps. ``toeplitz`` writes the kernel
into a matrix with one row for each input element and one column for each output element; that depends on the kernel
alone, and pays for short inputs in large batches, above all when the kernel is static.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from tzwc.ops.conv.algorithm import Algorithm, dtype_objection
from tzwc.ops.conv.algorithms.aten import taps
from tzwc.ops.conv.gradients_as_convolutions import by_forward_form, forward_form
from tzwc.ops.conv.padding import pad, padded_lengths, unpad
from tzwc.ops.conv.problem import Problem

__all__ = ["MATMUL", "TOEPLITZ", "UNFOLD"]

LARGEST = 2**28
"""Elements of an intermediate matrix: 1 GiB of float32."""


def _grouped(problem: Problem, values: Tensor) -> Tensor:
    """`(B, C, …)` as `(B, G, C / G, everything else)`."""
    return values.reshape(values.shape[0], problem.groups, values.shape[1] // problem.groups, -1)


def _filters(problem: Problem, kernel: Tensor) -> Tensor:
    """The taps as one matrix for each group: `(G, O / G, C / G · K)`, or `(B, C, 1, K)`."""
    weights = taps(problem, kernel)
    if problem.per_sample:
        return weights.reshape(*kernel.shape[:2], 1, math.prod(problem.kernel))
    return weights.reshape(problem.groups, problem.out_channels // problem.groups, -1)


def _product(problem: Problem, filters: Tensor, columns: Tensor) -> Tensor:
    """`(G, O / G, N)` times `(B, G, N, T)`; one filter of one element is a plain product."""
    if filters.shape[-1] == 1:
        y = filters * columns
    elif filters.dim() == 3 and problem.groups == 1:
        y = torch.matmul(filters[0], columns)
    else:
        y = torch.matmul(filters, columns)
    return y.reshape(columns.shape[0], problem.out_channels, *problem.out)


def _summed(problem: Problem, gradient: Tensor, columns: Tensor) -> Tensor:
    """The gradient of :func:`_filters`, summed over the samples that share them, as a kernel."""
    rows = _grouped(problem, gradient)
    if problem.per_sample or rows.shape[2] > 1 or columns.shape[2] > 1:
        found = torch.matmul(rows, columns.transpose(-1, -2))
    else:
        found = (rows * columns).sum(-1, keepdim=True)
    if problem.per_sample:
        return taps(problem, found.reshape(*gradient.shape[:2], *problem.kernel))
    return taps(problem, found.sum(0).reshape(problem.out_channels, problem.fan_in, *problem.kernel))


# --- one tap ------------------------------------------------------------------------------------------------------


def _matmul_objection(problem: Problem) -> str | None:
    if math.prod(problem.kernel) > 1:
        return f"kernel={problem.kernel} has more than one tap"
    return dtype_objection(problem)


def _seen(problem: Problem, x: Tensor) -> Tensor:
    """The elements that a single tap meets: `(B, G, C / G, T)`."""
    values = pad(problem, x)
    for axis, step in enumerate(problem.stride):
        values = values if step == 1 else torch.ops.aten.slice.Tensor(values, 2 + axis, None, None, step)
    return _grouped(problem, values)


def _matmul_run(problem: Problem, x: Tensor, filters: Tensor) -> Tensor:
    return _product(problem, filters, _seen(problem, x))


def _matmul_gradient(problem: Problem, a: Tensor, b: Tensor) -> Tensor:
    if problem.direction == "weight_gradient":
        return _summed(problem, b, _seen(problem, a))
    filters = _filters(problem, b).transpose(-1, -2)
    columns = _grouped(problem, a)
    y = filters * columns if filters.shape[-1] == 1 else torch.matmul(filters, columns)
    y = y.reshape(a.shape[0], problem.in_channels, *problem.out)
    for axis, (step, size) in enumerate(zip(problem.stride, padded_lengths(problem), strict=True)):
        trailing = (0, 0) * (problem.axes - 1 - axis)
        if step > 1:
            y = F.pad(y.unsqueeze(3 + axis), (*trailing, 0, step - 1)).flatten(2 + axis, 3 + axis)
        y = F.pad(y, (*trailing, 0, size - y.shape[2 + axis]))
    return unpad(problem, y)


def _matmul_work(problem: Problem) -> Mapping[str, float]:
    elements = problem.batch * (problem.in_channels + problem.out_channels) * math.prod(problem.out)
    return {"calls": 2.0, "matmul_flops": problem.flops, "moved": float(elements)}


# --- windows ------------------------------------------------------------------------------------------------------


def _columns_of(problem: Problem) -> float:
    """Elements of the matrix of windows."""
    return float(problem.batch * problem.in_channels) * math.prod(problem.kernel) * math.prod(problem.out)


def _unfold_objection(problem: Problem) -> str | None:
    if (reason := dtype_objection(problem)) is not None:
        return reason
    form = problem if problem.direction == "weight_gradient" else forward_form(problem)
    if _columns_of(form) > LARGEST:
        return f"the windows of the input would be {_columns_of(form):.2g} numbers, more than {LARGEST:.2g}"
    return None


def _columns(problem: Problem, x: Tensor) -> Tensor:
    """Every window of the input as a column: `(B, G, C / G · K, T)`."""
    values = pad(problem, x)
    for axis in range(problem.axes):
        step, apart = problem.stride[axis], problem.dilation[axis]
        values = values.unfold(2 + axis, problem.reach[axis], step)[..., ::apart]
    axes = problem.axes
    windows = values.permute(0, 1, *range(2 + axes, 2 + 2 * axes), *range(2, 2 + axes))
    count = math.prod(problem.kernel)
    per_group = x.shape[1] // problem.groups
    return windows.reshape(x.shape[0], problem.groups, per_group * count, math.prod(problem.out))


def _unfold_run(problem: Problem, x: Tensor, filters: Tensor) -> Tensor:
    return _product(problem, filters, _columns(problem, x))


def _unfold_gradient(problem: Problem, a: Tensor, b: Tensor) -> Tensor:
    if problem.direction == "input_gradient":
        return by_forward_form(problem, _filters, _unfold_run, a, b)
    return _summed(problem, b, _columns(problem, a))


def _unfold_work(problem: Problem) -> Mapping[str, float]:
    form = problem if problem.direction == "weight_gradient" else forward_form(problem)
    vectors = form.out_channels == form.groups  # one row for each group: as fast as memory is
    kind = "matvec_flops" if vectors else "matmul_flops"
    return {"calls": 3.0, kind: form.flops, "windows": _columns_of(form)}


# --- the kernel written out ---------------------------------------------------------------------------------------


def _entries(problem: Problem) -> float:
    rows = float(problem.batch * problem.in_channels if problem.per_sample else problem.out_channels * problem.fan_in)
    return rows * math.prod(_toeplitz_lengths(problem)) * math.prod(problem.out)


def _toeplitz_lengths(problem: Problem) -> tuple[int, ...]:
    return padded_lengths(problem) if problem.padding_mode == "circular" else problem.lengths


def _toeplitz_objection(problem: Problem) -> str | None:
    if (reason := dtype_objection(problem)) is not None:
        return reason
    if problem.direction == "weight_gradient":
        return "the taps are what is wanted, so there is no matrix to write them into"
    entries = _entries(forward_form(problem))
    if entries > LARGEST:
        return f"the matrix would have {entries:.2g} entries, more than {LARGEST:.2g}"
    return None


def _toeplitz_prepare(problem: Problem, kernel: Tensor) -> Tensor:
    """`(G, C / G · S, O / G · T)`, or `(B, C, S, T)`: entry (u, t) is the tap ``j`` with ``u = s·t + d·j - l``."""
    lengths, axes = _toeplitz_lengths(problem), problem.axes
    matrix = F.pad(taps(problem, kernel), (0, 1) * axes)  # a zero for the elements that no tap meets
    for axis, (length, count, out) in enumerate(zip(lengths, problem.kernel, problem.out, strict=True)):
        before = 0 if problem.padding_mode == "circular" else problem.padding[axis][0]
        u = torch.arange(length, device=kernel.device).unsqueeze(1)
        t = torch.arange(out, device=kernel.device)
        apart = u + before - problem.stride[axis] * t
        met = (apart >= 0) & (apart < problem.reach[axis]) & (apart % problem.dilation[axis] == 0)
        place = torch.where(met, apart // problem.dilation[axis], count)
        at = 2 + 2 * axis  # the axes before this one are two each by now
        matrix = matrix.index_select(at, place.flatten())
        matrix = matrix.reshape(*matrix.shape[:at], length, out, *matrix.shape[at + 1 :])
    order = (*range(2, 2 + 2 * axes, 2), *range(3, 2 + 2 * axes, 2))
    size, outputs = math.prod(lengths), math.prod(problem.out)
    if problem.per_sample:
        return matrix.permute(0, 1, *order).reshape(*kernel.shape[:2], size, outputs)
    per_group = problem.out_channels // problem.groups
    grouped = torch.unflatten(matrix, 0, (problem.groups, per_group))
    inside = [axis + 1 for axis in order]
    ordered = grouped.permute(0, 2, *inside[:axes], 1, *inside[axes:])
    return ordered.reshape(problem.groups, -1, per_group * outputs)


def _toeplitz_run(problem: Problem, x: Tensor, matrix: Tensor) -> Tensor:
    values = pad(problem, x) if problem.padding_mode == "circular" else x
    if problem.per_sample:
        rows = values.reshape(*x.shape[:2], 1, matrix.shape[2])
        return torch.matmul(rows, matrix).reshape(*x.shape[:2], *problem.out)
    rows = values.reshape(x.shape[0], problem.groups, matrix.shape[1]).transpose(0, 1)
    y = torch.bmm(rows, matrix).transpose(0, 1)
    return y.reshape(x.shape[0], problem.out_channels, *problem.out)


def _toeplitz_work(problem: Problem) -> Mapping[str, float]:
    form = forward_form(problem)
    entries = _entries(form)
    samples = 1 if form.per_sample else form.batch
    written = {} if form.static_kernel else {"entries": entries}
    kind = "matvec_flops" if samples == 1 else "matmul_flops"
    outputs = float(form.batch * form.out_channels * math.prod(form.out))
    calls = 3.0 if form.static_kernel else 4.0 + 8.0 * form.axes
    return {"calls": calls, kind: 2.0 * samples * entries, "moved": outputs, **written}


def _toeplitz_unmoved(problem: Problem) -> float:
    """Bytes of the indices of one axis: int64 and truths, several at once."""
    form = forward_form(problem)
    return 40.0 * max(length * out for length, out in zip(_toeplitz_lengths(form), form.out, strict=True))


MATMUL = Algorithm(
    name="matmul",
    summary="the matrix product that a single tap is",
    objection=_matmul_objection,
    prepare=_filters,
    run=_matmul_run,
    work=_matmul_work,
    exact=True,
    gradient=_matmul_gradient,
    skips_zeros=True,
)
UNFOLD = Algorithm(
    name="unfold",
    summary="windows of the input times the taps",
    objection=_unfold_objection,
    prepare=_filters,
    run=_unfold_run,
    work=_unfold_work,
    exact=True,
    gradient=_unfold_gradient,
)
TOEPLITZ = Algorithm(
    name="toeplitz",
    summary="the kernel written out as a matrix",
    objection=_toeplitz_objection,
    prepare=_toeplitz_prepare,
    run=_toeplitz_run,
    work=_toeplitz_work,
    exact=False,
    unmoved=_toeplitz_unmoved,
)
