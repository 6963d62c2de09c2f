"""Convolutions drawn at random, for calibration and for benchmarks.

Sizes are log-uniform: as many problems between 16 and 32 samples as between 32,768 and 65,536. Whatever exceeds the
bounds is drawn again, which thins out those that are large in several respects at once.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass

from tzwc.ops.conv import Problem

__all__ = ["BENCHMARK", "CALIBRATION", "Bounds", "draw", "stream"]


@dataclass(frozen=True)
class Bounds:
    """What is drawn, and what is drawn again.

    Attributes:
        lengths: smallest and largest input, for one axis and for each of two.
        channels: most channels.
        batch: most samples.
        elements: most elements of input and output together.
        kernel: most elements of the kernel.
        products: most multiplications by a transform that is as long as the input: a product for each sample,
            output channel, input channel of its group and input position.
        direct: most floating-point operations of the direct method.
    """

    lengths: tuple[tuple[int, int], tuple[int, int]] = ((16, 65536), (8, 224))
    channels: int = 512
    batch: int = 64
    elements: float = 2.0**22
    kernel: float = 2.0**22
    products: float = 2.0**28
    direct: float = math.inf

    def admit(self, problem: Problem) -> bool:
        """Whether ``problem`` is within the bounds."""
        inputs = problem.batch * problem.in_channels * math.prod(problem.lengths)
        outputs = problem.batch * problem.out_channels * math.prod(problem.out)
        kernels = (problem.batch if problem.per_sample else 1) * problem.out_channels * problem.fan_in
        products = problem.batch * problem.out_channels * problem.fan_in * math.prod(problem.lengths)
        return (
            inputs + outputs <= self.elements
            and kernels * math.prod(problem.kernel) <= self.kernel
            and products <= self.products
            and problem.flops <= self.direct
        )


BENCHMARK = Bounds()
CALIBRATION = Bounds(elements=2.0**21, kernel=2.0**20, products=2.0**25, direct=3e8)


def stream(seed: int, bounds: Bounds) -> Iterator[Problem]:
    """Endlessly many forward problems, always the same for a seed."""
    rng = random.Random(seed)
    while True:
        yield draw(rng, bounds)


def draw(rng: random.Random, bounds: Bounds) -> Problem:
    """A forward problem within ``bounds``."""
    while True:
        problem = _draw(rng, bounds)
        if bounds.admit(problem):
            return problem


def _draw(rng: random.Random, bounds: Bounds) -> Problem:
    axes = rng.choice((1, 2))
    low, high = bounds.lengths[axes - 1]
    lengths = (_log_uniform(rng, low, high),) * axes
    kernel = (_log_uniform(rng, 1, lengths[0]),) * axes
    kind = rng.choices(("depthwise", "per sample", "dense", "grouped"), (35, 20, 30, 15))[0]
    in_channels = out_channels = _log_uniform(rng, 1, bounds.channels)
    groups = in_channels
    if kind == "dense":
        out_channels, groups = _log_uniform(rng, 1, bounds.channels), 1
    elif kind == "grouped":
        groups = 2 ** rng.randint(1, 4)
        in_channels = groups * max(1, in_channels // groups)
        out_channels = groups * max(1, _log_uniform(rng, 1, bounds.channels) // groups)
    stride = rng.choices((1, 2), (90, 10))[0]
    return Problem(
        batch=_log_uniform(rng, 1, bounds.batch),
        in_channels=in_channels,
        out_channels=out_channels,
        groups=groups,
        lengths=lengths,
        kernel=kernel,
        padding=(_padding(rng, kernel[0], axes),) * axes,
        stride=(stride,) * axes,
        per_sample=kind == "per sample",
        static_kernel=kind != "per sample" and rng.random() < 0.5,
    )


def _padding(rng: random.Random, taps: int, axes: int) -> tuple[int, int]:
    """'same' mostly; 'valid'; and along one axis, 'causal'."""
    kind = rng.choices(("same", "valid", "causal"), (70, 15, 15 if axes == 1 else 0))[0]
    if kind == "same":
        return (taps - 1) // 2, taps // 2
    return (0, 0) if kind == "valid" else (taps - 1, 0)


def _log_uniform(rng: random.Random, low: int, high: int) -> int:
    return min(high, int(math.exp(rng.uniform(math.log(low), math.log(high + 1)))))
