"""The memory that an algorithm will need, from the elements that it says it moves, and whether it may have it."""

from __future__ import annotations

import math

import torch

from tzwc.ops.conv import Algorithm, Problem
from tzwc.ops.conv.generated_code import code_objection

__all__ = ["operand_bytes", "predicted_bytes", "too_much_memory", "too_much_to_measure", "transient_bytes"]

_OPERATIONS = ("calls", "flops", "fft_")
"""What marks quantities of ``Algorithm.work`` that count operations; all others count elements."""

_FACTOR = 2.0
"""Most that was measured of what is predicted: buffers that libraries hold twice, for another layout."""

_LIBRARIES = 32.0 * 2**20
"""Bytes that a first call takes whatever its sizes: code, plans, buffers of threads."""


def predicted_bytes(problem: Problem, algorithm: Algorithm) -> float:
    """An estimate of everything alive at once: all that is read or written, as if nothing were freed.

    What is prepared of a static kernel counts too.
    """
    problem = problem.with_(static_kernel=False)
    elements = sum(
        float(count) for name, count in algorithm.work(problem).items() if not any(mark in name for mark in _OPERATIONS)
    )
    return elements * _itemsize(problem) + algorithm.unmoved(problem)


def transient_bytes(problem: Problem, algorithm: Algorithm) -> float:
    """A bound for what one call of ``algorithm`` takes beyond operands and result, with what libraries keep."""
    return _FACTOR * predicted_bytes(problem, algorithm) + _LIBRARIES


def operand_bytes(problem: Problem) -> float:
    """Both operands and the result, in any direction."""
    samples = problem.batch if problem.per_sample else 1
    elements = problem.batch * problem.in_channels * math.prod(problem.lengths)
    elements += problem.batch * problem.out_channels * math.prod(problem.out)
    elements += samples * problem.out_channels * problem.fan_in * math.prod(problem.kernel)
    return float(elements) * problem.dtype.itemsize


def too_much_memory(problem: Problem, algorithm: Algorithm, native: Algorithm, limit: float) -> str | None:
    """Why ``algorithm`` is not chosen: it may need more than ``limit`` bytes, and many times what ``native`` needs.

    Of an input that is channels-last ``native`` is what oneDNN makes of it by itself: code that may have no bound.
    """
    if algorithm is native and problem.channels_last and problem.direction == "forward":
        return code_objection(problem)
    needed = predicted_bytes(problem, algorithm)
    if needed <= max(limit, 4 * predicted_bytes(problem, native)):
        return None
    return f"it may need {needed / 2**30:.1f} GiB, and the limit is {limit / 2**30:.1f} GiB"


def too_much_to_measure(problem: Problem, algorithm: Algorithm, limit: float) -> bool:
    """Whether one call of ``algorithm`` may take more than ``limit`` bytes beyond the operands."""
    return transient_bytes(problem, algorithm) - operand_bytes(problem) > limit


def _itemsize(problem: Problem) -> int:
    return max(torch.float32.itemsize, problem.dtype.itemsize)
