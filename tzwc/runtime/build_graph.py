"""Capture, check and lower one call of a module: what makes a graph for a call that has none."""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import nn

from tzwc._torch import pytree
from tzwc.errors import CaptureError
from tzwc.options import CompileOptions
from tzwc.runtime.accumulate import outside_checkpoints
from tzwc.runtime.specialisation import Specialisation
from tzwc.tracing.capture import UnsettledError, capture_call
from tzwc.tracing.verify import disagreement

__all__ = ["build_graph"]


def build_graph(
    module: nn.Module,
    options: CompileOptions,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    *,
    accumulating: bool,
    may_settle: bool,
) -> Specialisation:
    """A graph for this call and those like it.

    Args:
        accumulating: whether gradients of static values are being accumulated.
        may_settle: whether a call that sets the module up for later ones is refused.

    Raises:
        UnsettledError: the call changes the state that it depends on, so that the next one will be another program.
        CaptureError: the module cannot be captured.
        Exception: whatever the module, a pass or the comparison raises.
    """
    tensors = [t for t in pytree.tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)]
    if any(t.layout != torch.strided or t.is_quantized for t in tensors):
        raise CaptureError("an argument is sparse or quantised")
    # Leaving inference mode keeps inference tensors out of the graph; gradients stay off as they are.
    grad = torch.is_grad_enabled()
    with torch.inference_mode(False), torch.set_grad_enabled(grad), outside_checkpoints():
        args, kwargs = _ordinary((args, kwargs))
        start = time.perf_counter()
        captured = capture_call(module, args, kwargs, dynamic=options.dynamic)
        if captured.unsettled and may_settle:
            raise UnsettledError(captured.unsettled)
        problem = disagreement(module, captured, args, kwargs) if options.verify else None
        if problem is not None:
            raise CaptureError(f"the captured graph disagrees with the module: {problem}")
        elapsed = time.perf_counter() - start
        # While gradients accumulate, everything static is evaluated once, with gradients.
        vary = grad and not accumulating
        varying = frozenset(slot.name for slot in captured.slots if vary and slot.fetch().requires_grad)
        return Specialisation(captured, varying, options, grad=grad, capture_seconds=elapsed)


def _ordinary(arguments: Any) -> Any:
    """``arguments`` with tensor objects of their own, with the same contents and strides.

    A parameter given as an argument would be no input of the graph. Inference tensors cannot be part of a graph at all
    and are copied. One tensor given twice stays one, since the program may ask.
    """
    made: dict[int, torch.Tensor] = {}

    def ordinary(leaf: torch.Tensor) -> torch.Tensor:
        if id(leaf) not in made:
            own = leaf.clone() if leaf.is_inference() else leaf.detach()
            made[id(leaf)] = own.requires_grad_(leaf.requires_grad)
        return made[id(leaf)]

    return pytree.tree_map_only(torch.Tensor, ordinary, arguments)
