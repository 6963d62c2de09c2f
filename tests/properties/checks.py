"""Run a drawn program in every way that properties compare, and name what it gives."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from hypothesis import assume
from torch import Tensor, nn
from torch.utils import _pytree as pytree

import tzwc
from tests.properties.oracle import Oracle, Results
from tests.properties.programs import Program
from tzwc.passes import DEFAULT_PASSES
from tzwc.runtime.compiled_module import CompiledModule

__all__ = ["NAMES", "compiled", "derivatives", "eager_oracle", "observe", "state_of"]

NAMES = tuple(step.name for step in DEFAULT_PASSES)
"""The passes, in order."""

Call = Callable[..., Any]


def compiled(model: nn.Module, **options: Any) -> CompiledModule:
    """``tzwc.compile`` without a lowering, on a copy, so that state is written to once.

    Captured graphs are not compared with the module first: the property is to find a difference.
    """
    return tzwc.compile(copy.deepcopy(model), **{"backend": "eager", "verify": False, **options})


def observe(call: Call, program: Program, tensors: Sequence[Tensor], *, seed: int = 0) -> dict[str, Any]:
    """The leaves of what ``call`` returns, and their structure."""
    torch.manual_seed(seed)
    leaves, spec = pytree.tree_flatten(call(*program.arguments(list(tensors))))
    return {"structure": str(spec), **{f"result {i}": leaf for i, leaf in enumerate(leaves)}}


def state_of(model: nn.Module) -> dict[str, Any]:
    """Buffers by name, as they are now."""
    return {f"buffer {name}": buffer.detach().clone() for name, buffer in model.named_buffers()}


def derivatives(
    call: Call, model: nn.Module, program: Program, tensors: Sequence[Tensor], order: int, *, seed: int = 0
) -> dict[str, Any]:
    """Results, state, and derivatives up to ``order`` with respect to all inputs and parameters."""
    given = [tensor.detach().clone().requires_grad_(order > 0) for tensor in tensors]
    with torch.set_grad_enabled(order > 0):
        found = observe(call, program, given, seed=seed)
        named = {**{f"input {i}": t for i, t in enumerate(given)}, **dict(model.named_parameters())}
        outputs = [leaf for leaf in found.values() if isinstance(leaf, Tensor)]
        for n in range(1, order + 1):
            # Squares, so that derivatives of what is linear do not vanish in turn.
            losses = [(y * y).sum() / 2 + y.sum() for y in outputs if y.requires_grad]
            if not losses:
                break
            gradients = torch.autograd.grad(
                torch.stack(losses).sum(), list(named.values()), allow_unused=True, create_graph=n < order
            )
            found |= {f"derivative {n} of {name}": g for name, g in zip(named, gradients, strict=True)}
            outputs = [g for g in gradients if g is not None]
    return found | state_of(model)


def eager_oracle(
    model: nn.Module,
    program: Program,
    tensors: Sequence[Tensor],
    order: int = 0,
    *,
    seed: int = 0,
    epsilon: float = torch.finfo(torch.float64).eps,
) -> Oracle:
    """What the module itself gives in float64; a program that eager refuses is not a program."""

    def run() -> Results:
        own = copy.deepcopy(model)
        return derivatives(own, own, program, tensors, order, seed=seed)

    try:
        return Oracle(run, epsilon)
    except (RuntimeError, ValueError, IndexError, ZeroDivisionError):
        assume(False)
        raise
