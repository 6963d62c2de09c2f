"""Kar2 and Kar3: optimisers that follow the signs of the gradient and of one or two moments.

``p ← p − lr · (sign g + Σ_i sign m_i)``, then ``m_i ← β_i m_i + (1 − β_i) g``: the moments of the steps before decide.
Source: the released training code of arXiv 2401.17948.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, overload

import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer, ParamsT

from tzwc._torch import foreach
from tzwc.errors import InvalidArgumentError
from tzwc.util.argument_checks import examined, shown

__all__ = ["Kar2", "Kar3"]


class _SignMoments(Optimizer):
    """The update for any number of moments; ``betas`` of every group has one entry a moment."""

    moments: ClassVar[int]

    def __init__(self, params: ParamsT, lr: float, betas: tuple[float, ...]) -> None:
        super().__init__(params, {"lr": lr, "betas": betas})

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters, as :class:`torch.optim.Optimizer` does; its hyper-parameters are validated."""
        lr = param_group.get("lr", self.defaults["lr"])
        betas = param_group.get("betas", self.defaults["betas"])
        with examined("lr or betas"):
            if not isinstance(lr, (int, float, Tensor)) or not lr >= 0:
                raise InvalidArgumentError(f"lr = {shown(lr)}: expected a number of at least 0")
            if not isinstance(betas, (tuple, list)) or len(betas) != self.moments:
                raise InvalidArgumentError(f"betas = {shown(betas)}: expected a tuple of length {self.moments}")
            if not all(isinstance(beta, (int, float)) and 0 <= beta < 1 for beta in betas):
                raise InvalidArgumentError(f"betas = {shown(betas)}: expected numbers in [0, 1)")
        super().add_param_group(param_group)

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Perform one step.

        Args:
            closure: evaluates the model again and returns the loss.

        Returns:
            The loss of ``closure``, or ``None``.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            if params:
                self._update(params, group["lr"], group["betas"])
        return loss

    def _update(self, params: list[Tensor], lr: float, betas: tuple[float, ...]) -> None:
        grads = []
        for param in params:
            grad = param.grad
            assert grad is not None
            if grad.is_sparse or grad.is_complex():
                raise InvalidArgumentError("a gradient is sparse or complex: expected dense real gradients")
            grads.append(grad)
            state = self.state[param]
            if not state:
                state.update({f"moment_{n}": torch.zeros_like(param) for n in range(1, len(betas) + 1)})
        # All parameters in one call each: the model has hundreds of small ones.
        step = foreach.sign(grads)
        moments = [[self.state[p][f"moment_{n}"] for p in params] for n in range(1, len(betas) + 1)]
        for moment in moments:
            foreach.add_(step, foreach.sign(moment))
        foreach.add_(params, step, alpha=-lr)
        for moment, beta in zip(moments, betas, strict=True):
            foreach.lerp_(moment, grads, 1 - beta)


class Kar2(_SignMoments):
    """``p ← p − lr · (sign g + sign m)``, then ``m ← β m + (1 − β) g``.

    Args:
        params: parameters, or dicts of parameter groups.
        lr: learning rate.
        betas: decay ``(β,)`` of the moment.

    Raises:
        InvalidArgumentError: a hyper-parameter is out of range.
    """

    moments = 1

    def __init__(self, params: ParamsT, lr: float = 1e-3, betas: tuple[float] = (0.9,)) -> None:
        super().__init__(params, lr, betas)


class Kar3(_SignMoments):
    """``p ← p − lr · (sign g + sign m1 + sign m2)``, then ``m_i ← β_i m_i + (1 − β_i) g``.

    Args:
        params: parameters, or dicts of parameter groups.
        lr: learning rate; the released CIFAR-10 run has 0.001215 after 8 epochs of warm-up, with a cosine schedule.
        betas: decays ``(β1, β2)`` of the moments; the released runs have 0.5, 0.95 (CIFAR-10) and 0.75, 0.99
            (CIFAR-100).

    Raises:
        InvalidArgumentError: a hyper-parameter is out of range.
    """

    moments = 2

    def __init__(self, params: ParamsT, lr: float = 1.215e-3, betas: tuple[float, float] = (0.5, 0.95)) -> None:
        super().__init__(params, lr, betas)
