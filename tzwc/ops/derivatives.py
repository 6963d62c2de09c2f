"""Derivatives of operators of our own: backwards by a formula, forwards by what they are made of, or refused.

``torch.library.register_autograd`` has no place for tangents: an operator drops them without a word, and what depends
on it has a derivative of zero.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from tzwc._torch.autograd import AutoDispatchBelowAutograd, any_requires_grad, forward_mode_active
from tzwc._torch.functorch import current_transform

__all__ = ["is_differentiated", "register_derivatives", "tangents_may_flow"]


def tangents_may_flow() -> bool:
    """Whether anything is being differentiated forwards, by ``torch.func.jvp`` for example."""
    return forward_mode_active()


def is_differentiated(*tensors: Tensor) -> bool:
    """Whether an operator on ``tensors`` is being differentiated, in any mode."""
    return tangents_may_flow() or (torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors))


def register_derivatives(
    library: torch.library.Library,
    name: str,
    composition: Callable[..., Tensor],
    backward: Callable[..., Any],
    setup_context: Callable[[Any, tuple[Any, ...], Tensor], None],
) -> None:
    """Give an operator of ``library`` its derivatives.

    Args:
        library: in which it is defined.
        name: of the operator, without namespace; it returns one tensor.
        composition: the same function of operators that PyTorch can differentiate, called instead of the operator in
            forward mode and under ``torch.func``.
        backward: gradients of the arguments, from a context and the gradient of the result.
        setup_context: puts into the context what ``backward`` needs, from the arguments and the result.
    """
    operator = getattr(getattr(torch.ops, library.ns), name).default

    class Differentiable(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *args: Any) -> Tensor:
            with AutoDispatchBelowAutograd():
                result: Tensor = operator(*args)
            setup_context(ctx, args, result)
            return result

        @staticmethod
        def backward(ctx: Any, *gradients: Tensor) -> Any:
            return backward(ctx, *gradients)

    def differentiated(*args: Any) -> Tensor:
        # An autograd function called from here has no place among the transforms of torch.func.
        if tangents_may_flow() or current_transform() is not None:
            return composition(*args)
        if torch.is_grad_enabled() and any_requires_grad(*args):
            result: Tensor = Differentiable.apply(*args)  # type: ignore[no-untyped-call]
            return result
        with AutoDispatchBelowAutograd():
            return operator(*args)  # type: ignore[no-any-return]

    library.impl(name, differentiated, "Autograd")  # type: ignore[no-untyped-call]
