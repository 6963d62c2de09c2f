"""Convolution by many algorithms, behind one differentiable operator: :func:`tzwc.ops.convolution`."""

from __future__ import annotations

from tzwc.ops.conv.algorithm import Algorithm, all_algorithms, find_algorithm, legal_algorithms, register_algorithm
from tzwc.ops.conv.algorithms.aten import CHANNELS_LAST, CHANNELS_LAST_PREPADDED, NATIVE, PREPADDED
from tzwc.ops.conv.algorithms.fft import FFT
from tzwc.ops.conv.algorithms.matmul import MATMUL, TOEPLITZ, UNFOLD
from tzwc.ops.conv.algorithms.overlap_save import OVERLAP_SAVE
from tzwc.ops.conv.algorithms.shifts import SHIFTS
from tzwc.ops.conv.algorithms.swapped import SWAPPED, SWAPPED_CHANNELS_LAST
from tzwc.ops.conv.computation import compute
from tzwc.ops.conv.problem import Problem

__all__ = [
    "Algorithm",
    "Problem",
    "all_algorithms",
    "compute",
    "find_algorithm",
    "legal_algorithms",
    "register_algorithm",
]

_ALL = (
    NATIVE,
    PREPADDED,
    CHANNELS_LAST,
    CHANNELS_LAST_PREPADDED,
    SWAPPED,
    SWAPPED_CHANNELS_LAST,
    MATMUL,
    UNFOLD,
    TOEPLITZ,
    SHIFTS,
    FFT,
    OVERLAP_SAVE,
)
for _algorithm in _ALL:
    register_algorithm(_algorithm)
