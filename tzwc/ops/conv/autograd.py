"""Derivatives of a convolution, by algorithms of their own.

A convolution ``F(x, w)``, its input gradient ``I(g, w)`` and its weight gradient ``W(x, g)`` are bilinear, and they are
the partial adjoints of each other::

    ⟨F(x, w), g⟩ = ⟨x, I(g, w)⟩ = ⟨w, W(x, g)⟩

So one autograd function that computes any of the three has itself as backward, to any order. It keeps its two operands,
never spectra or other intermediates, and each of the three has an algorithm of its own.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tzwc._torch.tensors import is_view
from tzwc.ops.conv.algorithm import find_algorithm
from tzwc.ops.conv.computation import compute
from tzwc.ops.conv.problem import DIRECTIONS, Direction, Problem

__all__ = ["Names", "differentiable"]

Names = tuple[str, str, str]
"""Algorithms for the directions in the order of :data:`DIRECTIONS`."""

_ADJOINTS: dict[Direction, tuple[tuple[Direction, int], tuple[Direction, int]]] = {
    "forward": (("input_gradient", 0), ("weight_gradient", 1)),
    "input_gradient": (("forward", 0), ("weight_gradient", 0)),
    "weight_gradient": (("input_gradient", 1), ("forward", 1)),
}
"""For each operand the direction of its gradient, and the place of the incoming gradient among that one's operands.

The other operand's place is what is left: the gradient of ``I(g, w)`` for ``w`` is ``W(incoming, g)``.
"""


def differentiable(problem: Problem, names: Names, a: Tensor, b: Tensor) -> Tensor:
    """:func:`tzwc.ops.conv.compute` with derivatives, each by the algorithm that ``names`` has for its direction."""
    result: Tensor = _Convolution.apply(a, b, problem, names)  # type: ignore[no-untyped-call]
    return result


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(a: Tensor, b: Tensor, problem: Problem, names: Names) -> Tensor:
        with torch.autocast(a.device.type, enabled=False):  # the caller has converted what is to be converted
            y = compute(problem, names[DIRECTIONS.index(problem.direction)], a, b)
        # A result that autograd knows as a view must have a tangent whose storage is of the same size.
        return torch.ops.aten._unsafe_view.default(y, y.shape) if is_view(y) else y

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Problem, Names], output: Tensor) -> None:  # noqa: ARG004
        a, b, ctx.problem, ctx.names = inputs
        ctx.save_for_backward(a, b)
        ctx.save_for_forward(a, b)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        operands, found = ctx.saved_tensors, list[Tensor | None]()
        for own, (direction, place) in enumerate(_ADJOINTS[ctx.problem.direction]):
            if not ctx.needs_input_grad[own]:
                found.append(None)
                continue
            pair = (gradient, operands[1 - own]) if place == 0 else (operands[1 - own], gradient)
            found.append(differentiable(ctx.problem.with_(direction=direction), ctx.names, *pair))
        return found[0], found[1], None, None

    @staticmethod
    def jvp(ctx: Any, a_tangent: Tensor | None, b_tangent: Tensor | None, *_: None) -> Tensor | None:
        a, b = ctx.saved_tensors
        parts = []
        if a_tangent is not None:
            parts.append(differentiable(ctx.problem, ctx.names, a_tangent, b))
        if b_tangent is not None:
            parts.append(differentiable(ctx.problem, ctx.names, a, b_tangent))
        return sum(parts[1:], parts[0]) if parts else None

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], a: Tensor, b: Tensor, problem: Problem, names: Names
    ) -> tuple[Tensor, int]:
        """One convolution for all: of more samples, or, where kernels or their gradients differ, of more groups."""
        count = info.batch_size
        shared_kernel = in_dims[1] is None and problem.direction != "weight_gradient"
        a = _leading(a, in_dims[0], count)
        if problem.per_sample or shared_kernel:
            size = a.shape[1]
            if not shared_kernel or problem.per_sample:
                b = _leading(b, in_dims[1], count).flatten(0, 1)
            y = differentiable(problem.with_(batch=count * problem.batch), names, a.flatten(0, 1), b)
            return y.reshape(count, size, *y.shape[1:]), 0
        b = _leading(b, in_dims[1], count)
        many = problem.with_(
            in_channels=count * problem.in_channels,
            out_channels=count * problem.out_channels,
            groups=count * problem.groups,
        )
        y = differentiable(many, _those_that_can(many, names), _side_by_side(a), _kernels(problem, b))
        if problem.direction == "weight_gradient":
            return y.reshape(count, problem.out_channels, *y.shape[1:]), 0
        return y.reshape(y.shape[0], count, -1, *y.shape[2:]), 1


def _leading(values: Tensor, axis: int | None, count: int) -> Tensor:
    """The mapped axis in front; what is not mapped is repeated without a copy."""
    return values.expand(count, *values.shape) if axis is None else values.movedim(axis, 0)


def _side_by_side(values: Tensor) -> Tensor:
    """`(V, B, C, …)` as `(B, V · C, …)`."""
    return values.transpose(0, 1).flatten(1, 2)


def _kernels(problem: Problem, b: Tensor) -> Tensor:
    return _side_by_side(b) if problem.direction == "weight_gradient" else b.flatten(0, 1)


def _those_that_can(problem: Problem, names: Names) -> Names:
    """``names``, with ``native`` in the place of an algorithm that objects to a convolution of so many groups."""

    def able(direction: Direction, name: str) -> str:
        return name if find_algorithm(name).objection(problem.with_(direction=direction)) is None else "native"

    forward, of_input, of_weight = map(able, DIRECTIONS, names)
    return forward, of_input, of_weight
