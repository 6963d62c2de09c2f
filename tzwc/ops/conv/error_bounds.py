"""How far the result of an algorithm can be from the exact one: bounds, derived and not fitted.

Notation: ``u`` is the unit roundoff (half of ``eps``), ``γ_n = n u / (1 - n u)``.

**Direct methods.** An inner product of ``n`` terms, summed in any order and with or without fused operations, satisfies
``|ŷ - y| ≤ γ_n Σ|w||x|`` (N. J. Higham, *Accuracy and Stability of Numerical Algorithms*, 2nd ed., eq. (3.5)), with
``n`` the number of summed products: channels of a group times taps for the result. This holds for each element on its
own. ``Σ|w||x|`` is the same convolution of the absolute values.

**Toeplitz.** An inner product as well, over all elements of the input; the terms added to those of the direct method
are zero, but they are counted by ``n``.

**FFT.** A transform of length ``n`` by radix-2 butterflies satisfies ``‖ŷ - y‖₂ ≤ L η / (1 - L η) ‖y‖₂`` with
``L = log2 n`` and ``η = μ + γ_4 (√2 + μ)``, where ``μ`` is the error of the tabulated roots of unity (ibid., Theorem
24.2). A direct butterfly of radix ``p`` multiplies twice, each time with an error of at most ``√2 γ_2 ≤ γ_3`` (ibid.,
eq. (3.14)) and of ``μ``, and sums ``p`` terms: ``γ_{p+5}`` takes the place of ``γ_4``, ``√p`` that of ``√2``. With
``μ ≤ 2 u`` that is ``η_p ≤ (4 + √p (p + 5)) u`` for each of ``log_p n`` stages, and ``η_p / log2 p`` is largest for the
largest radix used, 7: 12.7 u. So ``η = 13 u`` for each of ``log2 n`` stages covers all.

A convolution transforms ``x`` and ``w``, multiplies (``√2 γ_2``), sums ``c`` channels (``γ_{c-1}``), and transforms
back. By Parseval and Cauchy-Schwarz the first three give every element an error of at most that of the product of
norms; the last one gives ``13 L u ‖y‖₂``, where ``y`` is the whole circular convolution, and by Young's inequality
``‖y‖₂ ≤ min(‖x‖₁ ‖w‖₂, ‖x‖₂ ‖w‖₁)``::

    |ŷ - y| ≤ u · [(2 · 13 · L + 4 + c) · ‖w‖₂ ‖x‖₂ + 13 · L · min(‖x‖₁ ‖w‖₂, ‖x‖₂ ‖w‖₁)] · (1 + O(u))

The norms are over all that one element sums: a sample's group of channels and an output's taps, and for the gradients
what takes their places. (Theorem 24.2 bounds a norm over all elements, hence the bound is relative to the peak.)

**Narrow types.** float16 and bfloat16 are multiplied exactly in float32, summed in float32, and rounded once:
``|ŷ - y| ≤ bound₃₂ + u |y|`` with the ``u`` of the narrow type; half of its smallest positive number where it
underflows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from tzwc.ops.conv.algorithm import find_algorithm
from tzwc.ops.conv.algorithms.fft import plan
from tzwc.ops.conv.algorithms.overlap_save import weight_blocks
from tzwc.ops.conv.computation import compute, is_narrow
from tzwc.ops.conv.gradients_as_convolutions import forward_form, forward_operands
from tzwc.ops.conv.problem import Problem

__all__ = ["error_bound", "summed_terms"]

STAGE = 13.0
"""``η / u`` for one stage of a transform."""


def _periods(lengths: Sequence[int], padding: Sequence[tuple[int, int]]) -> int:
    """How often one element of the input can stand in the padded one."""
    axes = zip(lengths, padding, strict=True)
    return math.prod(-(-(s + max(before, 0) + max(after, 0)) // s) + 1 for s, (before, after) in axes)


def summed_terms(problem: Problem) -> int:
    """The number of products in one element of the result of the direct method, at most."""
    form = forward_form(problem)
    taps = math.prod(form.kernel)
    if problem.direction == "input_gradient" and problem.padding_mode == "circular":
        taps *= _periods(problem.lengths, problem.padding)  # each has a window of its own, summed in the end
    return form.fan_in * taps


def error_bound(problem: Problem, algorithm: str, a: Tensor, b: Tensor) -> Tensor:
    """The largest possible error of each element of ``compute(problem, algorithm, a, b)``.

    Args:
        problem: any direction; its dtype is that of the computation.
        algorithm: the name of a registered one.
        a, b: the operands, as for :func:`tzwc.ops.conv.compute`; finite.

    Returns:
        float64, in the shape of the result.

    Raises:
        InvalidArgumentError: the algorithm is unknown.
    """
    u = torch.finfo(torch.float32 if is_narrow(problem.dtype) else problem.dtype).eps / 2
    double = problem.with_(dtype=torch.float64)
    magnitude = compute(double, "native", a.double().abs(), b.double().abs())
    form = forward_form(problem)
    if find_algorithm(algorithm).exact:
        bound = _gamma(summed_terms(problem), u) * magnitude
    elif algorithm == "toeplitz":
        inputs = math.prod(form.lengths) * _periods(form.lengths, form.padding)
        bound = _gamma(form.fan_in * inputs + summed_terms(problem), u) * magnitude
    else:
        blocks = weight_blocks(problem) if algorithm == "overlap_save" else (1, 1)
        bound = torch.full_like(magnitude, _fourier(problem, u, a.double(), b.double(), *blocks))
    if is_narrow(problem.dtype):
        info = torch.finfo(problem.dtype)
        exact = compute(double, "native", a.double(), b.double())
        bound = bound + info.eps / 2 * (exact.abs() + bound) + info.smallest_normal * info.eps / 2
    return bound


def _gamma(terms: float, u: float) -> float:
    return terms * u / (1 - terms * u)


def _fourier(problem: Problem, u: float, a: Tensor, b: Tensor, count: int, overlap: int) -> float:
    """The bound of the FFT: one number, since the peak decides for all elements.

    ``count`` blocks are summed in one result, and an element of the input is part of up to ``overlap`` of them.
    """
    form = forward_form(problem)
    x, kernel = forward_operands(problem, a, b)
    repeated = overlap * (_periods(form.lengths, form.padding) if form.padding_mode == "circular" else 1)
    if problem.direction == "input_gradient" and problem.padding_mode == "circular":
        repeated *= _periods(problem.lengths, problem.padding)
    rows = x.flatten(2) if form.per_sample else x.reshape(x.shape[0], form.groups, -1)
    filters = kernel.flatten(2) if form.per_sample else kernel.flatten(1)
    x1, x2 = (float(rows.norm(order, dim=-1).max()) for order in (1, 2))
    w1, w2 = (float(filters.norm(order, dim=-1).max()) for order in (1, 2))
    stages = STAGE * sum(max(math.log2(n), 1.0) for n in plan(form).size)
    products = _gamma(2 * stages + 4 + form.fan_in + count, u) * x2 * w2
    # A period repeats what a one-norm sums, so each of them counts in full.
    return repeated * (products + _gamma(stages, u) * min(x1 * w2, x2 * w1))
