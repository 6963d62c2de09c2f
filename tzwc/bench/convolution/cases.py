"""The convolutions of ``tzwc bench convolution``: drawn ones, and four that are fixed."""

from __future__ import annotations

import random
from dataclasses import dataclass

from tzwc.autotune.random_problems import BENCHMARK, Bounds, draw
from tzwc.ops.conv import Problem
from tzwc.ops.conv.problem import DIRECTIONS, Direction

__all__ = ["FIXED", "Case", "FixedPoint", "draw_cases"]


@dataclass(frozen=True)
class Case:
    """One convolution to measure.

    Attributes:
        number: its place in the sequence of a seed.
        problem: the forward problem.
        backward: both gradients are measured too.
    """

    number: int
    problem: Problem
    backward: bool

    @property
    def directions(self) -> tuple[Problem, ...]:
        """The problems that are timed, each by itself."""
        directions: tuple[Direction, ...] = DIRECTIONS if self.backward else ("forward",)
        return tuple(self.problem.with_(direction=direction) for direction in directions)


@dataclass(frozen=True)
class FixedPoint:
    """A convolution for which a gain over ``torch.compile`` is asked for.

    Attributes:
        name: for tables.
        problem: depthwise, with a static kernel.
        goal: how many times faster.
    """

    name: str
    problem: Problem
    goal: float


def _depthwise(batch: int, channels: int, lengths: tuple[int, ...], taps: int) -> Problem:
    kernel = (taps,) * len(lengths)
    padding = ((taps // 2, taps // 2),) * len(lengths)
    return Problem(batch, channels, channels, channels, lengths, kernel, padding, static_kernel=True)


FIXED = (
    FixedPoint("1-D, length 784, K 127", _depthwise(8, 64, (784,), 127), 8.0),
    FixedPoint("1-D, length 784, K 783", _depthwise(8, 64, (784,), 783), 30.0),
    FixedPoint("1-D, length 4096, K 4095", _depthwise(2, 32, (4096,), 4095), 100.0),
    FixedPoint("2-D, 64×64, K 63", _depthwise(2, 24, (64, 64), 63), 3.0),
)
"""Kernels of odd length, which PyTorch's own padding suits; the sizes are those of the table in the design."""


def draw_cases(seed: int, count: int, bounds: Bounds = BENCHMARK) -> list[Case]:
    """The first ``count`` cases of a seed; every second one with its gradients, of the kernel too: it is not static."""
    rng = random.Random(f"benchmark {seed}")
    problems = (draw(rng, bounds) for _ in range(count))
    return [Case(n, p.with_(static_kernel=p.static_kernel and n % 2 == 0), n % 2 == 1) for n, p in enumerate(problems)]
