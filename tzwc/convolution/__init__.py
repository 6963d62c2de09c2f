"""Convolution by many algorithms, behind one differentiable operator: :func:`tzwc.ops.convolution`."""

from __future__ import annotations

from tzwc.convolution.algorithm import (
    Algorithm,
    algorithms,
    find_algorithm,
    legal_algorithms,
    register_algorithm,
)
from tzwc.convolution.computation import compute
from tzwc.convolution.fourier import FFT
from tzwc.convolution.matrix import MATMUL, TOEPLITZ, UNFOLD
from tzwc.convolution.native import CHANNELS_LAST, CHANNELS_LAST_PREPADDED, NATIVE, PREPADDED
from tzwc.convolution.overlap_save import OVERLAP_SAVE
from tzwc.convolution.problem import Problem
from tzwc.convolution.shifts import SHIFTS
from tzwc.convolution.swapped import SWAPPED, SWAPPED_CHANNELS_LAST

__all__ = ["Algorithm", "Problem", "algorithms", "compute", "find_algorithm", "legal_algorithms", "register_algorithm"]

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
