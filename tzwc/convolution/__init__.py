"""Convolution by many algorithms, behind one differentiable operator."""

from __future__ import annotations

from tzwc.convolution.algorithm import (
    Algorithm,
    algorithms,
    find_algorithm,
    legal_algorithms,
    register_algorithm,
)
from tzwc.convolution.problem import Problem

__all__ = ["Algorithm", "Problem", "algorithms", "find_algorithm", "legal_algorithms", "register_algorithm"]
