"""Second derivatives through lowered code.

Ahead-of-time compiled graphs have a backward, but no backward of it. Wrapped by :func:`twice_differentiable`, lowered
code keeps its own backward for ordinary training; when a derivative is itself to be differentiated
(``create_graph=True``), the graph is evaluated again from its inputs by PyTorch's operators, which have derivatives of
every order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, fx

from tzwc.errors import TzwcError
from tzwc.ir.graph import is_mutating, is_random
from tzwc.lowering.backend import Lowered
from tzwc.lowering.buffer_pool import with_kept_buffers

__all__ = ["SecondDerivativeError", "finished", "twice_differentiable"]

Gradients = Callable[..., Sequence[Tensor | None]]


class SecondDerivativeError(TzwcError, RuntimeError):
    """A second derivative was asked of a graph that cannot be evaluated a second time with the same result."""


def finished(code: Lowered, graph: fx.GraphModule, grad: bool, keep_buffers: bool) -> Lowered:
    """What is called for lowered code.

    Args:
        code: lowered from ``graph``.
        graph: the same function by PyTorch's operators.
        grad: with derivatives of every order, see :func:`twice_differentiable`.
        keep_buffers: with kept memory, backward as well, see :mod:`tzwc.lowering.buffer_pool`.
    """
    gradients: Gradients = torch.autograd.grad
    if keep_buffers:
        code, gradients = with_kept_buffers(code), with_kept_buffers(gradients)
    return twice_differentiable(code, graph, gradients) if grad else code


def twice_differentiable(code: Lowered, graph: fx.GraphModule, gradients: Gradients = torch.autograd.grad) -> Lowered:
    """``code`` with derivatives of every order.

    Args:
        code: lowered from ``graph``, with a first derivative.
        graph: the same function by PyTorch's operators.
        gradients: how the first derivative is taken: ``torch.autograd.grad``, or that in circumstances of its own.
    """
    repeatable = not any(is_mutating(n) or is_random(n) for n in graph.graph.nodes)

    def run(*arguments: Any) -> Sequence[Any]:
        results: Sequence[Any] = _Lowered.apply(  # type: ignore[no-untyped-call]
            code, graph, repeatable, gradients, *arguments
        )
        return results

    return run


class _Lowered(torch.autograd.Function):
    """``code(*arguments)``; the graph of its own backward is kept apart from the caller's."""

    @staticmethod
    def forward(
        ctx: Any,
        code: Lowered,
        graph: fx.GraphModule,
        repeatable: bool,
        gradients: Gradients,
        *arguments: Any,
    ) -> tuple[Any, ...]:
        ctx.graph, ctx.repeatable, ctx.gradients = graph, repeatable, gradients
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*arguments)
        with torch.enable_grad():
            inner = [a.detach().requires_grad_(a.requires_grad) for a in arguments]
            outputs = code(*inner)
        ctx.inner = (inner, outputs)
        results = tuple(o.detach() if isinstance(o, Tensor) else o for o in outputs)
        constant = [r for r, o in zip(results, outputs, strict=True) if isinstance(o, Tensor) and not o.requires_grad]
        ctx.mark_non_differentiable(*constant)
        return results

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        differentiated_again = torch.is_grad_enabled()
        if differentiated_again or ctx.inner is None:
            if not ctx.repeatable:
                raise SecondDerivativeError(
                    "a second derivative, or a second backward, of a compiled module that draws random numbers or "
                    "updates buffers; compile it with backend='eager', or differentiate the original module"
                )
            inputs: Sequence[Any] = ctx.saved_tensors
            with torch.enable_grad():
                outputs = ctx.graph(*inputs)
        else:
            inputs, outputs = ctx.inner
            ctx.inner = None  # frees the intermediates; a second backward evaluates the graph again
        wanted = [i for i, needed in enumerate(ctx.needs_input_grad[4:]) if needed]
        reached = [(o, g) for o, g in zip(outputs, gradients, strict=True) if g is not None and o.requires_grad]
        found = ctx.gradients(
            [o for o, _ in reached],
            [inputs[i] for i in wanted],
            [g for _, g in reached],
            create_graph=differentiated_again,
            allow_unused=True,
        )
        by_position = dict(zip(wanted, found, strict=True))
        return (None, None, None, None, *(by_position.get(i) for i in range(len(inputs))))
