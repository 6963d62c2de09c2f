"""Convolution by one FFT of minimal good size.

Correlation with taps ``w`` is the linear convolution with the reversed taps, read from index ``R - 1 - l`` on, where
``R`` is the reach of the kernel and ``l`` the padding in front. A circular convolution of length ``n`` gives the same
numbers there as soon as no wrapped term reaches an element that is read: :func:`tzwc.ops.conv.fft_sizes.minimal_size`.
Circular padding on an axis of a good size needs no padding at all.

**Contract**, which differs from that of a direct method in two ways:

- Accuracy is relative to the peak: an element's error is bounded by a multiple of ``eps · log2(n)`` times
  ``‖x‖₂ ‖w‖₂`` and the norm of the whole result, whatever the size of that element:
  :mod:`tzwc.ops.conv.error_bounds`.
- One NaN or infinity spreads over all elements of all output channels that read its channel.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from tzwc.ops.conv.algorithm import Algorithm, dtype_objection
from tzwc.ops.conv.fft_sizes import fast_size, is_fast, minimal_size
from tzwc.ops.conv.gradients_as_convolutions import forward_form
from tzwc.ops.conv.padding import pad, padded_lengths, wrap
from tzwc.ops.conv.problem import Problem
from tzwc.ops.fft import irfftn, rfftn

__all__ = ["FFT", "Plan", "multiply", "plan", "spectrum", "spread_taps"]


@dataclass(frozen=True)
class Plan:
    """What is transformed, and what is read of the result.

    Attributes:
        cyclic: the padding is circular, and so is the transform.
        written: the padding is circular and has to be written out.
        lengths: of the input that is transformed.
        first: where the first output stands in the linear convolution, along each axis.
        size: transform lengths.
    """

    cyclic: bool
    written: bool
    lengths: tuple[int, ...]
    first: tuple[int, ...]
    size: tuple[int, ...]


def plan(problem: Problem) -> Plan:
    """The sizes for a forward problem."""
    circular = problem.padding_mode == "circular"
    cyclic = circular and all(map(is_fast, problem.lengths))
    lengths = padded_lengths(problem) if circular and not cyclic else problem.lengths
    before = [0 if circular and not cyclic else a for a, _ in problem.padding]
    first = tuple(reach - 1 - a for reach, a in zip(problem.reach, before, strict=True))
    if cyclic:
        return Plan(True, False, lengths, first, lengths)
    size = []
    for axis, (length, reach, begin) in enumerate(zip(lengths, problem.reach, first, strict=True)):
        last = begin + problem.stride[axis] * (problem.out[axis] - 1)
        size.append(fast_size(minimal_size(length, reach, begin, last)))
    return Plan(False, circular, lengths, first, tuple(size))


def spread_taps(problem: Problem, kernel: Tensor) -> Tensor:
    """The kernel reversed, unless ``flip`` reverses it again, and with zeros between its taps: `(..., *R)`."""
    taps = kernel if problem.flip else kernel.flip(tuple(range(2, 2 + problem.axes)))
    for axis, step in enumerate(problem.dilation):
        if step > 1:
            spread = F.pad(taps.unsqueeze(3 + axis), (0, 0) * (problem.axes - 1 - axis) + (0, step - 1))
            taps = spread.flatten(2 + axis, 3 + axis).narrow(2 + axis, 0, problem.reach[axis])
    return taps


def spectrum(problem: Problem, kernel: Tensor, size: tuple[int, ...]) -> Tensor:
    """The transform of the taps, laid out for :func:`multiply`.

    Returns:
        `(B, C, *F)` for per-sample kernels, `(O, *F)` where nothing is summed over channels, `(C, *F)` where a group
        has one output, and otherwise `(F…, G, C / G, O / G)` with all frequencies in one axis.
    """
    taps = spread_taps(problem, kernel)
    for axis, (reach, n) in enumerate(zip(problem.reach, size, strict=True)):
        if reach > n:  # a kernel longer than the period
            periods = -(-reach // n)
            padded = F.pad(taps, (0, 0) * (problem.axes - 1 - axis) + (0, periods * n - reach))
            taps = torch.unflatten(padded, 2 + axis, (periods, n)).sum(2 + axis)
    result = rfftn(taps, size)
    if problem.per_sample:
        return result
    if problem.fan_in == 1 or problem.out_channels == problem.groups:
        return result.flatten(0, 1)
    flat = torch.unflatten(result.flatten(2), 0, (problem.groups, -1))
    return flat.permute(3, 0, 2, 1).contiguous()


def multiply(problem: Problem, transform: Tensor, kernel: Tensor) -> Tensor:
    """The product of the spectra, summed over a group's input channels: `(B, C, *F)` to `(B, O, *F)`."""
    if problem.per_sample or problem.is_depthwise:
        return transform * kernel
    batch, groups = transform.shape[0], problem.groups
    frequencies = transform.shape[2:]
    if problem.out_channels == groups:
        return torch.unflatten(transform * kernel, 1, (groups, -1)).sum(2)
    if problem.fan_in == 1:
        per_group = torch.unflatten(kernel, 0, (groups, -1))
        return (transform.unsqueeze(2) * per_group).flatten(1, 2)
    count = math.prod(frequencies)
    rows = transform.reshape(batch, groups, -1, count).permute(3, 1, 0, 2)
    y = rows.contiguous() @ kernel
    return y.permute(2, 1, 3, 0).reshape(batch, problem.out_channels, *frequencies)


def _run(problem: Problem, x: Tensor, kernel: Tensor) -> Tensor:
    chosen = plan(problem)
    values = pad(problem, x) if chosen.written else x
    full = irfftn(multiply(problem, rfftn(values, chosen.size), kernel), chosen.size)
    for axis in range(problem.axes):
        full = _keep(problem, chosen, full, axis)
    return full


def _keep(problem: Problem, chosen: Plan, full: Tensor, axis: int) -> Tensor:
    """The outputs along ``axis``, from the circular convolution."""
    step, at, first = problem.stride[axis], 2 + axis, chosen.first[axis]
    last = first + step * (problem.out[axis] - 1)
    if chosen.cyclic:
        kept = wrap(full, at, problem.lengths[axis], -first, last + 1 - problem.lengths[axis])
    else:
        end = chosen.lengths[axis] + problem.reach[axis] - 1
        begin, stop = min(max(first, 0), end), max(min(last + 1, end), 0)
        if begin >= stop:  # the kernel sees nothing but padding
            return full.new_zeros((*full.shape[:at], problem.out[axis], *full.shape[at + 1 :]))
        kept = full.narrow(at, begin, stop - begin)
        kept = F.pad(kept, (0, 0) * (problem.axes - 1 - axis) + (begin - first, last + 1 - stop))
    return kept if step == 1 else kept.movedim(at, -1)[..., ::step].movedim(-1, at)


# --- what the running time is made of -----------------------------------------------------------------------------


def transform_operations(rows: float, size: tuple[int, ...]) -> float:
    """Operations of ``rows`` real transforms, by the customary count ``2.5 n log2 n``."""
    n = math.prod(size)
    return 2.5 * rows * n * max(math.log2(n), 1.0)


def product_work(problem: Problem, frequencies: float) -> Mapping[str, float]:
    """The product of the spectra: elementwise, or one matrix product for each frequency."""
    outputs = float(problem.batch * problem.out_channels)
    inputs = float(problem.batch * problem.in_channels)
    if problem.fan_in == 1 or problem.out_channels == problem.groups:
        return {"complex_products": max(inputs, outputs) * frequencies}
    return {
        "complex_matmul_flops": 8.0 * outputs * problem.fan_in * frequencies,
        "transposed": 2.0 * (inputs + outputs) * frequencies,
    }


def _work(problem: Problem) -> Mapping[str, float]:
    form = forward_form(problem)
    chosen = plan(form)
    inputs, outputs = float(form.batch * form.in_channels), float(form.batch * form.out_channels)
    kernels = float(form.batch * form.in_channels if form.per_sample else form.out_channels * form.fan_in)
    n = math.prod(chosen.size)
    rows = inputs + outputs + (0.0 if form.static_kernel else kernels)
    kind = "fft_1d" if form.axes == 1 else "fft_nd"
    return {
        "calls": 5.0 if form.static_kernel else 8.0,
        kind: transform_operations(rows, chosen.size),
        "moved": rows * n,
        **product_work(form, n / 2 + 1),
    }


FFT = Algorithm(
    name="fft",
    summary="one FFT of minimal good size",
    objection=dtype_objection,
    prepare=lambda problem, kernel: spectrum(problem, kernel, plan(problem).size),
    run=_run,
    work=_work,
    exact=False,
)
