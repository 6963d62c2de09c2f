"""The memory that an algorithm will need, from the elements that it says it moves."""

from __future__ import annotations

import torch

from tzwc.convolution import Algorithm, Problem

__all__ = ["predicted_bytes", "too_much_memory"]

_OPERATIONS = ("calls", "flops", "fft_")
"""What marks quantities of ``Algorithm.work`` that count operations; all others count elements."""


def predicted_bytes(problem: Problem, algorithm: Algorithm) -> float:
    """An upper bound for everything alive at once: all that is read or written, as if nothing were freed."""
    elements = sum(
        float(count) for name, count in algorithm.work(problem).items() if not any(mark in name for mark in _OPERATIONS)
    )
    return elements * max(torch.float32.itemsize, problem.dtype.itemsize)


def too_much_memory(problem: Problem, algorithm: Algorithm, native: Algorithm, limit: float) -> str | None:
    """Why ``algorithm`` is left out: it may need more than ``limit`` bytes, and many times what ``native`` needs."""
    needed = predicted_bytes(problem, algorithm)
    if needed <= max(limit, 4 * predicted_bytes(problem, native)):
        return None
    return f"it may need {needed / 2**30:.1f} GiB, and the limit is {limit / 2**30:.1f} GiB"
