"""Seconds that an algorithm will take, predicted from times that were measured.

A prediction has two parts. The **trend** is linear in the quantities of ``Algorithm.work`` (operator calls, operations
of one kind, elements moved…), with coefficients that are not negative, fitted to relative errors: it extrapolates. The
**deviation** is what the trend misses by, in logarithms, interpolated between measured problems that are alike (a
Gaussian process over the logarithms of their sizes): libraries have cliffs, such as oneDNN's above 13 depthwise taps,
that no simple formula has. Far from everything measured it vanishes.

A calibrated model takes the table that comes with tzwc as its trend, times a factor for each algorithm: a hundred
problems measured here say how this machine differs, and the table knows the cliffs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tzwc.ops.conv import Algorithm, Problem, all_algorithms

__all__ = ["CostModel", "Sample"]

_FACTORS = {torch.float64: 2.0, torch.bfloat16: 1.5, torch.float16: 1.5}
"""Times float32, which alone is calibrated; the same for every algorithm, so that it does not decide anything."""

_SCALE = 5.0
"""Octaves over which deviations are alike."""

_SPREAD, _NOISE = 0.6, 0.1
"""Of deviations and of measurements, in natural logarithms."""

_LARGEST = 40.0
"""Logarithm of a deviation, between any two times that are believed: far above what a machine does, and finite."""

_MOST = 2000
"""Measured problems of an algorithm that are looked at; the effort grows with the third power of their number."""

_FEWEST = 5
"""Measured problems without which an algorithm has no prediction."""


@dataclass(frozen=True)
class Sample:
    """One problem, and the measured seconds by algorithm."""

    problem: Problem
    seconds: Mapping[str, float]


@dataclass(frozen=True)
class _Fit:
    """Trend and deviation of one algorithm in one direction."""

    names: tuple[str, ...]
    coefficients: Tensor
    places: Tensor
    weights: Tensor
    factor: float


class CostModel:
    """Predicts seconds.

    Args:
        samples: what was measured, in any direction, on one machine.
        prior: the trend; by default it is fitted to ``samples``.
    """

    def __init__(self, samples: Sequence[Sample], prior: CostModel | None = None) -> None:
        self._samples = samples
        self._prior = prior
        self._fits: dict[tuple[str, str], _Fit | None] = {}

    def predict(self, problem: Problem, name: str) -> float | None:
        """Seconds for the algorithm ``name``; ``None`` when too few problems were measured to say."""
        factor = _FACTORS.get(problem.dtype, 1.0)
        plain = problem.with_(dtype=torch.float32)
        seconds = self._predict(plain, all_algorithms()[name])
        return None if seconds is None else factor * seconds

    def _predict(self, problem: Problem, algorithm: Algorithm) -> float | None:
        key = algorithm.name, problem.direction
        if key not in self._fits:
            self._fits[key] = self._fit(algorithm, problem.direction)
        fit = self._fits[key]
        if fit is None:
            return None if self._prior is None else self._prior._predict(problem, algorithm)
        trend = self._trend(problem, algorithm, fit.names, fit.coefficients)
        alike = _alike(_place(problem).unsqueeze(0), fit.places)
        deviation = float((alike @ fit.weights).squeeze())
        return trend * fit.factor * math.exp(max(-_LARGEST, min(_LARGEST, deviation)))

    def _trend(self, problem: Problem, algorithm: Algorithm, names: tuple[str, ...], coefficients: Tensor) -> float:
        if self._prior is not None and (seconds := self._prior._predict(problem, algorithm)) is not None:
            return seconds
        return float(_row(algorithm, problem, names) @ coefficients)

    def _fit(self, algorithm: Algorithm, direction: str) -> _Fit | None:
        usable = [s for s in self._samples if s.problem.direction == direction and algorithm.name in s.seconds]
        usable = [s for s in usable if algorithm.objection(s.problem) is None][:_MOST]
        if len(usable) < _FEWEST:
            return None
        problems = [s.problem for s in usable]
        seconds = torch.tensor([s.seconds[algorithm.name] for s in usable], dtype=torch.float64)
        names = tuple(sorted({name for problem in problems for name in algorithm.work(problem)}))
        rows = torch.stack([_row(algorithm, problem, names) for problem in problems])
        coefficients = _non_negative(rows / seconds.unsqueeze(1), torch.ones_like(seconds))
        trends = torch.tensor([self._trend(problem, algorithm, names, coefficients) for problem in problems])
        missed = (seconds / trends.double().clamp(min=1e-9)).log()
        shift = missed.median()
        places = torch.stack([_place(problem) for problem in problems])
        covariance = _alike(places, places) + (_NOISE / _SPREAD) ** 2 * torch.eye(len(problems), dtype=torch.float64)
        weights = torch.linalg.solve(covariance, missed - shift)
        return _Fit(names, coefficients, places, weights, math.exp(float(shift)))


def _row(algorithm: Algorithm, problem: Problem, names: tuple[str, ...]) -> Tensor:
    """The work of a problem, and one for what every call costs."""
    work = algorithm.work(problem)
    return torch.tensor([1.0, *(float(work.get(name, 0.0)) for name in names)], dtype=torch.float64)


def _place(problem: Problem) -> Tensor:
    """Where a problem is among others: logarithms of its sizes, and what makes it another kind, in octaves."""
    kinds = (problem.axes, problem.is_depthwise, problem.per_sample, problem.static_kernel, max(problem.stride) > 1)
    padded = any(any(pair) for pair in problem.padding)
    sizes = (
        problem.batch,
        problem.in_channels,
        problem.out_channels,
        problem.fan_in,
        math.prod(problem.lengths),
        math.prod(problem.kernel),
        math.prod(problem.out),
    )
    octaves = [math.log2(max(size, 1)) for size in sizes]
    return torch.tensor([*octaves, *(4.0 * kind for kind in kinds), 2.0 * padded], dtype=torch.float64)


def _alike(a: Tensor, b: Tensor) -> Tensor:
    """How much the deviations at ``a`` and ``b`` have in common: 1 for the same place, falling off over octaves."""
    return torch.exp(-torch.cdist(a, b) / _SCALE)


def _non_negative(rows: Tensor, wanted: Tensor) -> Tensor:
    """The coefficients ``c ≥ 0`` with the least ``‖rows · c - wanted‖²`` (Lawson and Hanson's active sets).

    Rotated to as few rows as there are columns first: on a busy machine MKL's threads wait for each other in every
    product of long columns.
    """
    scale = rows.norm(dim=0).clamp(min=1e-300)
    a = rows / scale
    if a.shape[0] > a.shape[1]:
        q, a = torch.linalg.qr(a)
        wanted = q.T @ wanted
    c = torch.zeros(a.shape[1], dtype=torch.float64)
    active = torch.zeros(a.shape[1], dtype=torch.bool)
    for _ in range(3 * a.shape[1]):
        gradient = a.T @ (wanted - a @ c)
        gradient[active] = -math.inf
        if float(gradient.max()) < 1e-9:
            break
        active[int(gradient.argmax())] = True
        while True:
            trial = torch.zeros_like(c)
            trial[active] = torch.linalg.lstsq(a[:, active], wanted.unsqueeze(1), driver="gelsd").solution.squeeze(1)
            if not bool((trial[active] <= 0).any()):
                break
            falling = active & (trial <= 0)
            step = (c[falling] / (c[falling] - trial[falling]).clamp(min=1e-300)).min()
            c = c + step * (trial - c)
            active &= c > 1e-12
        c = trial
    found: Tensor = c / scale
    return found
