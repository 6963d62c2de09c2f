"""Convolution by many algorithms, behind one differentiable operator: :func:`tzwc.ops.convolution`.

Importing this package registers the algorithms, ``native`` first.
"""

from __future__ import annotations

from tzwc.convolution import native as _native  # noqa: F401, I001
from tzwc.convolution import fourier as _fourier  # noqa: F401
from tzwc.convolution.algorithm import (
    Algorithm,
    algorithms,
    find_algorithm,
    legal_algorithms,
    register_algorithm,
)
from tzwc.convolution.computation import compute
from tzwc.convolution.problem import Problem

__all__ = ["Algorithm", "Problem", "algorithms", "compute", "find_algorithm", "legal_algorithms", "register_algorithm"]
