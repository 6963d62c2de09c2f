"""Convolutions whose memory is measured, in a process of its own."""

from __future__ import annotations

from tzwc.autotune.memory import transient_bytes
from tzwc.ops.conv import Problem, legal_algorithms
from tzwc.ops.conv.problem import DIRECTIONS


def depthwise(*kernel: int, channels: int = 16) -> Problem:
    return Problem(
        1, channels, channels, channels, tuple(k + 2 for k in kernel), kernel, tuple((k // 2, k // 2) for k in kernel)
    )


def samples():  # type: ignore[no-untyped-def]
    """Every legal algorithm for convolutions of each kind, in each direction."""
    from tzwc.autotune.workload import operands

    forward = [
        depthwise(255),
        depthwise(255, channels=64),
        depthwise(31, 31, channels=32),
        depthwise(1999),
        Problem(8, 2, 2, 2, (1200,), (412,), ((205, 206),)),
        Problem(2, 16, 32, 4, (400,), (99,), ((49, 49),)),
        Problem(2, 8, 24, 1, (40, 40), (9, 9), ((4, 4),) * 2),
        Problem(4, 8, 8, 8, (500,), (301,), ((150, 150),), per_sample=True),
    ]
    for plain in [*forward, depthwise(31, 31).with_(channels_last=True)]:
        for direction in DIRECTIONS:
            problem = plain.with_(direction=direction)
            for name, algorithm in legal_algorithms(problem)[0].items():
                if transient_bytes(problem, algorithm) < 2.0**28:
                    yield problem, name, algorithm, *operands(problem)
