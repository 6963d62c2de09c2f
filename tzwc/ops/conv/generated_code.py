"""The machine code that oneDNN writes for a convolution, before the first call, and keeps: where it has no bound.

A depthwise convolution that is channels-last and that oneDNN pads by itself has all its taps unrolled, once for every
number of them that reaches beyond an end and for several blocks of outputs. (With 16 channels and 1,999 taps that are
4.6 GB and 8 s.) Padded in advance there is next to none; but the input gradient is always padded.

Measured with oneDNN 3.12 in bytes per ``taps² · longest axis``: with AVX-512 at most 0.8 forward and 1.1 for the input
gradient, with AVX2 at most 5.3 and more than 9 in 1-D, and 7 in 2-D. Whether it happens depends on threads and batch
size, which may change after the choice, and on the channels; so none of these is asked, and of all instruction sets the
bound is that of the worst. Other processors than x86 have never been measured and are taken for as bad.
"""

from __future__ import annotations

import math

from tzwc.ops.conv.problem import Problem

__all__ = ["MOST_CODE", "code_bytes", "code_objection"]

MOST_CODE = 2.0**26
"""Bytes for one convolution."""

_PER_TAP = 16.0
"""Bytes per ``taps² · longest axis``."""


def code_bytes(problem: Problem) -> float:
    """A bound for the code of ``problem``, were it channels-last and padded by oneDNN; 0 where it unrolls no taps."""
    if problem.device != "cpu" or problem.fan_in > 1 or (problem.groups == 1 and not problem.per_sample):
        return 0.0
    return _PER_TAP * math.prod(problem.kernel) ** 2 * max(problem.kernel)


def code_objection(problem: Problem) -> str | None:
    """Why ``problem`` may not be channels-last and padded by oneDNN, or ``None`` when it may."""
    code = code_bytes(problem)
    if code <= MOST_CODE:
        return None
    return f"oneDNN may write {code / 2**20:.3g} MiB of code for so many taps, and the limit is {MOST_CODE / 2**20:.3g}"
