"""Convolution along one axis by many short FFTs: overlap-save.

The padded input is cut into blocks of ``n`` that overlap by ``R - 1``, where ``R`` is the kernel's reach. The circular
convolution of each block is right from element ``R - 1`` on, and these ``n - R + 1`` elements, block by block, are the
result. (A. V. Oppenheim and R. W. Schafer, *Discrete-Time Signal Processing*, section 8.7.3.) For an input much longer
than the kernel the transforms are shorter and stay in a cache nearer to the processor.

The weight gradient is the sum over blocks of their own, summed before the inverse transform: blocks are samples.

The contract is that of :mod:`tzwc.ops.conv.algorithms.fft`, with norms over one block: one NaN reaches a block only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import torch.nn.functional as F
from torch import Tensor

from tzwc.ops.conv.algorithm import Algorithm, dtype_objection
from tzwc.ops.conv.algorithms.fft import FFT, multiply, product_work, spectrum, transform_operations
from tzwc.ops.conv.fft_sizes import fast_size
from tzwc.ops.conv.gradients_as_convolutions import by_forward_form, forward_form
from tzwc.ops.conv.padding import pad, padded_lengths
from tzwc.ops.conv.problem import Problem
from tzwc.ops.fft import irfftn, rfftn

__all__ = ["OVERLAP_SAVE", "weight_blocks"]


@dataclass(frozen=True)
class _Blocks:
    """Blocks of ``size`` elements, ``count`` of them, ``hop`` apart."""

    size: int
    hop: int
    count: int

    @property
    def span(self) -> int:
        """Elements from the first block's first to the last block's last."""
        return self.size + (self.count - 1) * self.hop


@lru_cache(maxsize=4096)
def _blocks(reach: int, outputs: int) -> _Blocks:
    """The block size with the fewest operations: transforms there and back, and a few more for each element."""

    def cost(size: int) -> float:
        return -(-outputs // (size - reach + 1)) * size * (math.log2(size) + 2.0)

    whole = fast_size(outputs + reach - 1)
    sizes, size = [whole], fast_size(reach + 1)
    while size < whole:
        sizes.append(size)
        size = fast_size(size + max(size // 16, 1))
    best = min(sizes, key=cost)
    hop = best - reach + 1
    return _Blocks(best, hop, -(-outputs // hop))


def _chosen(problem: Problem) -> _Blocks:
    return _blocks(problem.reach[0], problem.stride[0] * (problem.out[0] - 1) + 1)


def _objection(problem: Problem) -> str | None:
    if (reason := dtype_objection(problem)) is not None:
        return reason
    if problem.axes > 1:
        return f"there are {problem.axes} spatial axes, and blocks are cut along one"
    if problem.direction == "weight_gradient" and problem.per_sample:
        return "nothing is summed over samples, so blocks would need one inverse transform each"
    form = problem if problem.direction == "weight_gradient" else forward_form(problem)
    if _chosen(form).count == 1:
        return "one block is best, which is the algorithm fft"
    return None


def _cut(values: Tensor, blocks: _Blocks) -> Tensor:
    """`(…, S)` as overlapping `(…, count, size)`."""
    missing = blocks.span - values.shape[-1]
    values = F.pad(values, (0, missing)) if missing > 0 else values
    return values.narrow(-1, 0, blocks.span).unfold(-1, blocks.size, blocks.hop)


def _prepare(problem: Problem, kernel: Tensor) -> Tensor:
    return spectrum(problem, kernel, (_chosen(problem).size,))


def _run(problem: Problem, x: Tensor, kernel: Tensor) -> Tensor:
    blocks, size = _chosen(problem), (_chosen(problem).size,)
    windows = _cut(pad(problem, x), blocks)
    if problem.per_sample or problem.is_depthwise:
        full = irfftn(rfftn(windows, size) * kernel.unsqueeze(-2), size)
    else:
        rows = windows.transpose(1, 2).flatten(0, 1)
        full = irfftn(multiply(problem, rfftn(rows, size), kernel), size)
        full = full.reshape(x.shape[0], blocks.count, problem.out_channels, blocks.size).transpose(1, 2)
    kept = full[..., problem.reach[0] - 1 :].reshape(x.shape[0], problem.out_channels, blocks.count * blocks.hop)
    return kept[..., : problem.stride[0] * (problem.out[0] - 1) + 1 : problem.stride[0]]


def _gradient(problem: Problem, a: Tensor, b: Tensor) -> Tensor:
    if problem.direction == "input_gradient":
        return by_forward_form(problem, _prepare, _run, a, b)
    blocked, blocks, pieces = _blocked(problem)
    x = _cut(pad(problem, a), blocks)
    missing = pieces * blocks.count - problem.out[0]
    g = F.pad(b, (0, missing)).reshape(b.shape[0], problem.out_channels, blocks.count, pieces)
    x, g = x.transpose(1, 2).flatten(0, 1), g.transpose(1, 2).flatten(0, 1)
    return by_forward_form(blocked, FFT.prepare, FFT.run, x, g)


def _blocked(problem: Problem) -> tuple[Problem, _Blocks, int]:
    """The weight gradient with blocks as samples, the blocks of the input, and outputs in each."""
    step, reach = problem.stride[0], problem.reach[0]
    pieces = -(-_chosen(problem).hop // step)
    count = -(-problem.out[0] // pieces)
    blocks = _Blocks(step * (pieces - 1) + reach, step * pieces, count)
    blocked = problem.with_(
        batch=max(problem.batch, 1) * count, lengths=(blocks.size,), padding=((0, 0),), padding_mode="zeros"
    )
    return blocked, blocks, pieces


def weight_blocks(problem: Problem) -> tuple[int, int]:
    """Blocks summed in a weight gradient, and how many of them one element of the input can be part of."""
    if problem.direction != "weight_gradient":
        return 1, 1
    _, blocks, _ = _blocked(problem)
    return blocks.count, -(-blocks.size // blocks.hop)


def _work(problem: Problem) -> Mapping[str, float]:
    if problem.direction == "weight_gradient":
        blocked, blocks, _ = _blocked(problem)
        moved = float(blocked.batch * (problem.in_channels + problem.out_channels) * blocks.size)
        work = dict(FFT.work(blocked))
        return work | {"calls": work["calls"] + 4.0, "moved": work["moved"] + moved}
    form = forward_form(problem)
    blocks = _chosen(form)
    rows = float(form.batch * (form.in_channels + form.out_channels) * blocks.count)
    kernels = float(form.batch * form.in_channels if form.per_sample else form.out_channels * form.fan_in)
    transformed = rows + (0.0 if form.static_kernel else kernels)
    moved = rows * blocks.size + float(form.batch * form.in_channels * padded_lengths(form)[0])
    return {
        "calls": 8.0 if form.static_kernel else 11.0,
        "fft_1d": transform_operations(transformed, (blocks.size,)),
        "moved": transformed * blocks.size + moved,
        **product_work(form.with_(batch=form.batch * blocks.count), blocks.size / 2 + 1),
    }


OVERLAP_SAVE = Algorithm(
    name="overlap_save",
    summary="many short FFTs along one axis",
    objection=_objection,
    prepare=_prepare,
    run=_run,
    work=_work,
    exact=False,
    gradient=_gradient,
)
