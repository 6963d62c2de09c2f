"""One problem, one algorithm: the result."""

from __future__ import annotations

import torch
from torch import Tensor

from tzwc.errors import InvalidArgumentError
from tzwc.ops.conv.algorithm import Algorithm, find_algorithm, widens
from tzwc.ops.conv.gradients_as_convolutions import by_forward_form
from tzwc.ops.conv.problem import Problem

__all__ = ["compute", "is_narrow", "result_shape"]


def is_narrow(dtype: torch.dtype) -> bool:
    """Whether float32 is used in between."""
    return dtype in (torch.float16, torch.bfloat16)


def result_shape(problem: Problem, a: Tensor) -> tuple[int, ...]:
    """Shape of the result of ``problem``, with the batch size of the first operand."""
    if problem.direction == "input_gradient":
        return (a.shape[0], problem.in_channels, *problem.lengths)
    if problem.direction == "forward":
        return (a.shape[0], problem.out_channels, *problem.out)
    lead = a.shape[:2] if problem.per_sample else (problem.out_channels, problem.fan_in)
    return (*lead, *problem.kernel)


def compute(problem: Problem, algorithm: str, a: Tensor, b: Tensor) -> Tensor:
    """The result of ``problem`` by ``algorithm``; for derivatives see :func:`tzwc.ops.convolution`.

    Args:
        problem: sizes and direction. The batch size is that of the tensors, not the one in the problem.
        algorithm: the name of a registered one.
        a, b: forward: input `(B, C, *S)` and kernel. Input gradient: gradient of the output `(B, O, *out)` and kernel.
            Weight gradient: input and gradient of the output. The kernel is `(O, C / groups, *K)`, or `(B, C, *K)` for
            ``per_sample``.

    Returns:
        Forward `(B, O, *out)`, otherwise in the shape of input or kernel; in the dtype of ``a``. float16 and bfloat16
        are summed in float32 and rounded once.

    Raises:
        InvalidArgumentError: the algorithm is unknown, or has an objection to the problem.
    """
    chosen = find_algorithm(algorithm)
    if (reason := chosen.objection(problem)) is not None:
        raise InvalidArgumentError(f"algorithm={algorithm!r} cannot compute this convolution: {reason}")
    if isinstance(a.shape[0], int) and 0 in (*a.shape, *b.shape):
        return a.new_zeros(result_shape(problem, a))
    # A weight gradient sums over samples: with an open batch size they must not be taken for a single one.
    problem = problem.with_(batch=a.shape[0] if isinstance(a.shape[0], int) else max(problem.batch, 2))
    dtype = a.dtype
    if widens(chosen, dtype, a.device.type):
        a, b, problem = a.float(), b.float(), problem.with_(dtype=torch.float32)
    if problem.direction == "forward":
        return _own(chosen, problem, chosen.run(problem, a, chosen.prepare(problem, b))).to(dtype)
    if chosen.gradient is not None:
        return chosen.gradient(problem, a, b).to(dtype)
    return _own(chosen, problem, by_forward_form(problem, chosen.prepare, chosen.run, a, b)).to(dtype)


def _own(algorithm: Algorithm, problem: Problem, result: Tensor) -> Tensor:
    """No window into a larger buffer, which would stay alive; PyTorch's own results keep the layout of their input."""
    return result if algorithm.narrow or problem.channels_last else result.contiguous()
