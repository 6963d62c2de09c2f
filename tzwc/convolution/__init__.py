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
from tzwc.convolution.native import CHANNELS_LAST, NATIVE, PREPADDED
from tzwc.convolution.problem import Problem

__all__ = ["Algorithm", "Problem", "algorithms", "compute", "find_algorithm", "legal_algorithms", "register_algorithm"]

for _algorithm in (NATIVE, PREPADDED, CHANNELS_LAST, FFT):
    register_algorithm(_algorithm)
