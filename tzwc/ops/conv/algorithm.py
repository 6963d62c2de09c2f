"""The interface of an algorithm for convolution, and the table of those that are known."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor

from tzwc.errors import InvalidArgumentError
from tzwc.ops.conv.problem import Problem

__all__ = [
    "SUPPORTED",
    "Algorithm",
    "all_algorithms",
    "dtype_objection",
    "exactness_objection",
    "find_algorithm",
    "legal_algorithms",
    "register_algorithm",
    "widens",
]


@dataclass(frozen=True)
class Algorithm:
    """One way to compute a convolution.

    Attributes:
        name: what options, remarks and benchmarks call it.
        summary: one line.
        objection: why it cannot compute a problem, or ``None`` when it can.
        prepare: `(problem, kernel) -> prepared`, what depends on the kernel alone (a spectrum, a matrix); a pass may
            keep it between calls when the kernel is static. Differentiable.
        run: `(problem, x, prepared) -> y`, without bias, in the dtype of ``x``. Differentiable. The batch size is
            that of ``x``, not the one in the problem.
        work: the quantities that its running time is made of, by name (operator calls, FLOPs of one kind, transform
            operations, elements moved…), apart from those of ``prepare`` where the kernel is static.
        exact: every element of the result is a sum of products of its own inputs: accurate relative to the element's
            terms, and one NaN or infinity reaches only the elements that read it. An FFT is not.
        gradient: `(problem, a, b) -> result` for the directions of ``problem`` other than forward, where the algorithm
            has a way of its own; ``None`` computes them as the forward convolutions of
            :mod:`tzwc.ops.conv.gradients_as_convolutions`.
        narrow: float16 and bfloat16 are computed as they are, summed in float32 by the library. Otherwise, and on a
            CPU always, the caller hands over float32 and rounds the result once; see :func:`widens`.
        skips_zeros: the input gradient with a stride does not multiply the zeros that others put between the elements
            of the output's gradient, so it is exact where the forward direction is.
        unmoved: bytes that it needs beyond the elements that ``work`` counts, such as tables of indices.

    ``objection``, ``work`` and ``unmoved`` take problems of any direction. ``prepare`` and ``run`` are given forward
    problems only.
    """

    name: str
    summary: str
    objection: Callable[[Problem], str | None]
    prepare: Callable[[Problem, Tensor], Tensor]
    run: Callable[[Problem, Tensor, Tensor], Tensor]
    work: Callable[[Problem], Mapping[str, float]]
    exact: bool
    gradient: Callable[[Problem, Tensor, Tensor], Tensor] | None = None
    narrow: bool = False
    skips_zeros: bool = False
    unmoved: Callable[[Problem], float] = lambda _: 0.0


SUPPORTED = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
"""Dtypes of inputs and kernels."""


def dtype_objection(problem: Problem) -> str | None:
    """Why the dtype rules out every algorithm; complex numbers are two real convolutions each, left to the caller."""
    if problem.dtype in SUPPORTED:
        return None
    return f"{problem.dtype} is not one of {', '.join(map(str, SUPPORTED))}"


def widens(algorithm: Algorithm, dtype: torch.dtype, device: str) -> bool:
    """Whether float32 has to be handed over in the place of ``dtype``.

    On a CPU it has to be even for PyTorch's own: oneDNN 3.12 does not come back from a depthwise convolution in
    bfloat16 with 31 taps (channels-last, 300 elements).
    """
    return dtype in (torch.float16, torch.bfloat16) and (device == "cpu" or not algorithm.narrow)


_TABLE: dict[str, Algorithm] = {}


def register_algorithm(algorithm: Algorithm) -> Algorithm:
    """Add ``algorithm`` to the candidates of every later choice.

    Raises:
        InvalidArgumentError: the name is taken.
    """
    if algorithm.name in _TABLE:
        raise InvalidArgumentError(f"an algorithm called {algorithm.name!r} is registered already")
    _TABLE[algorithm.name] = algorithm
    return algorithm


def all_algorithms() -> Mapping[str, Algorithm]:
    """All that are registered, by name, in the order of registration; ``native`` is the first."""
    return MappingProxyType(_TABLE)


def find_algorithm(name: str) -> Algorithm:
    """The algorithm called ``name``.

    Raises:
        InvalidArgumentError: there is none; the message lists them.
    """
    if name not in _TABLE:
        raise InvalidArgumentError(f"algorithm={name!r} is unknown; choose one of {', '.join(_TABLE)}")
    return _TABLE[name]


def exactness_objection(problem: Problem, algorithm: Algorithm) -> str | None:
    """Why ``algorithm`` does not keep the promise of :attr:`Algorithm.exact` for ``problem``."""
    if not algorithm.exact:
        return "exact=True was asked for"
    if problem.direction == "input_gradient" and max(problem.stride) > 1 and not algorithm.skips_zeros:
        return "exact=True was asked for, and it multiplies the zeros between the elements of the gradient"
    return None


def legal_algorithms(problem: Problem, *, exact: bool = False) -> tuple[dict[str, Algorithm], dict[str, str]]:
    """Those that can compute ``problem``, and for each of the others the reason why not.

    Args:
        problem: what to compute.
        exact: only those with :attr:`Algorithm.exact`.
    """
    legal, declined = {}, {}
    for name, algorithm in _TABLE.items():
        reason = algorithm.objection(problem)
        if reason is None and exact:
            reason = exactness_objection(problem, algorithm)
        if reason is None:
            legal[name] = algorithm
        else:
            declined[name] = reason
    return legal, declined
