"""Custom ``autograd.Function``s as one node each: their backward would be lost if they were traced into."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.checkpoint import CheckpointFunction

from tzwc._torch import pytree
from tzwc.tracing.tracer import Tracer
from tzwc.util.autocast import Autocast, active_autocast, autocast_as

__all__ = ["CustomFunction", "recorded_whole"]


@dataclass(frozen=True)
class CustomFunction:
    """A call target that applies an ``autograd.Function``.

    Attributes:
        function: the subclass.
        autocast: the regions around the call, which act inside of the function: the graph around it runs without.
    """

    function: type[torch.autograd.Function]
    autocast: Autocast = ()

    @property
    def __name__(self) -> str:
        return self.function.__name__

    def __call__(self, *args: Any) -> Any:
        with autocast_as(self.autocast):
            return self.function.apply(*args)  # type: ignore[no-untyped-call]


@contextmanager
def recorded_whole(tracer: Tracer, function: type[torch.autograd.Function]) -> Iterator[None]:
    """While the context is open, ``function.forward`` records one node instead of its operators.

    A checkpoint is traced into: recomputation is then the compiler's decision.
    """
    forward = function.__dict__.get("forward")
    stand_in = _checkpointed(tracer) if function is CheckpointFunction else _recorder(tracer, function)
    function.forward = staticmethod(stand_in)  # type: ignore[method-assign]
    try:
        yield
    finally:
        if forward is None:
            del function.forward
        else:
            function.forward = forward  # type: ignore[method-assign]


def _checkpointed(tracer: Tracer) -> Callable[..., Any]:
    def forward(ctx: Any, run: Callable[..., Any], preserve: bool, *args: Any) -> Any:
        del ctx, preserve
        # Autograd sees the arguments alone: without gradients of theirs, the parameters used inside get none either.
        tensors = [a for a in args if isinstance(a, torch.Tensor)]
        with torch.set_grad_enabled(any(map(tracer.tensors.requires_grad, tensors))):
            return run(*args)

    return forward


def _recorder(tracer: Tracer, function: type[torch.autograd.Function]) -> Callable[..., Any]:
    forward = function.forward
    # With a setup_context of its own, forward gets the arguments alone; else the context comes first.
    contexts = int(function.setup_context is torch.autograd.Function.setup_context)

    @functools.wraps(forward)  # PyTorch fills in the defaults of its signature
    def record(*given: Any) -> Any:
        args = given[contexts:]
        if not all(isinstance(a, torch.Tensor) or not _holds_tensors(a) for a in args):
            tracer.refuse(f"gives {function.__name__} containers of tensors")
        return tracer.whole(
            CustomFunction(function, active_autocast()), args, lambda fakes: forward(*given[:contexts], *fakes)
        )

    return record


def _holds_tensors(value: Any) -> bool:
    return any(isinstance(leaf, torch.Tensor) for leaf in pytree.tree_leaves(value))
