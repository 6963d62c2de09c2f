"""How far the result of an algorithm can be from the exact one: bounds, derived and not fitted.

Notation: ``u`` is the unit roundoff (half of ``eps``), ``γ_n = n u / (1 - n u)``.

**Direct methods.** An inner product of ``n`` terms, summed in any order and with or without fused operations, satisfies
``|ŷ - y| ≤ γ_n Σ|w||x|`` (N. J. Higham, *Accuracy and Stability of Numerical Algorithms*, 2nd ed., eq. (3.5)), with
``n`` the number of summed products: channels of a group times taps for the result. This holds for each element on its
own. ``Σ|w||x|`` is the same convolution of the absolute values.

**Toeplitz.** An inner product as well, over all elements of the input; the terms added to those of the direct method
are zero, but they are counted by ``n``.

**FFT.** A transform of length ``n`` with radix-2 butterflies satisfies ``‖ŷ - y‖₂ ≤ L η / (1 - L η) ‖y‖₂`` with
``L = log2 n`` and ``η = μ + γ_4 (√2 + μ)``, where ``μ`` is the error of the tabulated roots of unity (ibid., Theorem
24.2); with ``μ ≤ 2 u`` that is ``η ≤ (2 + 4√2) u + O(u²) ≤ 8 u``. Butterflies of radix 3, 5 and 7 sum more products at
once; a direct one of radix ``p`` has ``γ_{p+2}`` in the place of ``γ_4`` and a matrix of norm ``√p``, so that its
``η_p ≤ (2 + √p (p + 2)) u`` belongs to ``log_p n`` stages; the largest ratio ``η_p / log2 p`` among 2, 3, 5 and 7 is
that of 7, ``25.9 / 2.81 ≤ 10``, so ``η ≤ 10 u`` for each of ``log2 n`` stages covers all. A convolution has three transforms; the element-wise
product of spectra adds ``√2 γ_2`` and the sum over ``c`` channels ``γ_c``. With Parseval's theorem and
``|Σ_j w_j x_{t-j}| ≤ ‖w‖₂ ‖x‖₂`` every element obeys::

    |ŷ - y| ≤ (3 · 10 · log2(n) + 4 + c) · u · ‖w‖₂ ‖x‖₂ (1 + O(u))

The norms are over all that one element sums: a sample's group of channels and an output's taps, and for the gradients
what takes their places. (Theorem 24.2 bounds a norm over all elements, hence the bound is relative to the peak.)

**Narrow types.** float16 and bfloat16 are multiplied exactly in float32, summed in float32, and rounded once:
``|ŷ - y| ≤ bound₃₂ + u |y|`` with the ``u`` of the narrow type; half of its smallest positive number where it
underflows.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tzwc.convolution.algorithm import find_algorithm
from tzwc.convolution.computation import compute, is_narrow
from tzwc.convolution.directions import forward_form, forward_operands
from tzwc.convolution.fourier import plan
from tzwc.convolution.problem import Problem

__all__ = ["error_bound", "summed_terms"]

STAGE = 10.0
"""``η / u`` for one stage of a transform."""


def summed_terms(problem: Problem) -> int:
    """The number of products in one element of the result of the direct method, at most."""
    form = forward_form(problem)
    taps = math.prod(form.kernel)
    if problem.direction == "input_gradient" and problem.padding_mode == "circular":
        taps = math.prod(problem.out) * taps  # several periods, each with a window of its own, are summed in the end
    return form.fan_in * taps


def error_bound(problem: Problem, algorithm: str, a: Tensor, b: Tensor) -> Tensor:
    """The largest possible error of each element of ``compute(problem, algorithm, a, b)``.

    Args:
        problem: any direction; its dtype is that of the computation.
        algorithm: the name of a registered one.
        a, b: the operands, as for :func:`tzwc.convolution.compute`; finite.

    Returns:
        float64, in the shape of the result.
    """
    dtype = torch.float32 if is_narrow(problem.dtype) else problem.dtype
    u = torch.finfo(dtype).eps / 2
    double = problem.with_(dtype=torch.float64)
    magnitude = compute(double, "native", a.double().abs(), b.double().abs())
    if find_algorithm(algorithm).exact:
        bound = _gamma(summed_terms(problem), u) * magnitude
    elif algorithm == "toeplitz":
        form = forward_form(problem)
        size = math.prod(s + max(left, 0) + max(right, 0) for s, (left, right) in zip(form.lengths, form.padding))
        bound = _gamma(form.fan_in * size + summed_terms(problem), u) * magnitude
    else:
        bound = _fourier(problem, u, a.double(), b.double(), magnitude)
    if is_narrow(problem.dtype):
        exact = compute(double, "native", a.double(), b.double())
        info = torch.finfo(problem.dtype)
        bound = bound + info.eps / 2 * (exact.abs() + bound) + info.smallest_normal * info.eps / 2
    return bound


def _gamma(terms: int, u: float) -> float:
    return terms * u / (1 - terms * u)


def _fourier(problem: Problem, u: float, a: Tensor, b: Tensor, magnitude: Tensor) -> Tensor:
    """The bound of the FFT: one number, since the peak decides for all elements."""
    form = forward_form(problem)
    x, kernel = forward_operands(problem, a, b)
    stages = sum(max(math.log2(n), 1.0) for n in plan(form).size)
    terms = form.fan_in + 4
    # Padding with periods repeats elements, and blocks add their zeros: norms of what is transformed, no more.
    repeated = math.prod(-(-(s + max(p[0], 0) + max(p[1], 0)) // s) for s, p in zip(form.lengths, form.padding))
    spread = math.sqrt(repeated) if form.padding_mode == "circular" else 1.0
    if form.per_sample:
        norms = x.flatten(2).norm(dim=2).max() * kernel.flatten(2).norm(dim=2).max()
    else:
        rows = x.reshape(x.shape[0], form.groups, -1).norm(dim=2)
        norms = rows.max() * kernel.flatten(1).norm(dim=1).max()
    factor = (3 * STAGE * stages + terms) * u
    return torch.full_like(magnitude, factor / (1 - factor) * spread * float(norms))
