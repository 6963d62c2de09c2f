"""What a captured graph is specialised to, as a key that is made anew at every call."""

from __future__ import annotations

import enum
from operator import attrgetter
from typing import Any

import torch

from tzwc._torch import pytree
from tzwc.runtime.module_guard import ModuleGuard
from tzwc.tracing.global_state import global_state

__all__ = ["CallKey", "call_key", "family_of"]

CallKey = tuple[Any, ...]

# Leaves of the arguments that become constants of the graph, compared by value at every call.
# What else an object of a derived class holds would not be compared, so only members of enumerations are admitted.
_CONSTANTS = frozenset({int, float, bool, str, bytes, complex, type(None), torch.dtype, torch.device, torch.Size})
_SCALARS = (int, float, str, bytes, complex)

_requires_grad = attrgetter("requires_grad")


def call_key(guard: ModuleGuard, leaves: list[Any], spec: pytree.TreeSpec, accumulating: bool) -> CallKey | None:
    """The key of a call with these leaves in this structure; ``None`` when an argument cannot be part of a key.

    Args:
        accumulating: whether gradients of static values are being accumulated.
    """
    grad = torch.is_grad_enabled()
    described: list[Any] = []
    tensors: list[int] = []
    for leaf in leaves:
        kind = type(leaf)  # what an object says of its class may be anything
        if issubclass(kind, torch.Tensor):
            if leaf.is_nested:  # it has neither one shape nor one arrangement
                return None
            facts = (
                leaf.dtype,
                leaf.device,
                leaf.requires_grad,
                leaf.layout,
                kind,
                leaf.is_conj(),
                leaf.is_neg(),
            )
            described.append((leaf.shape, *facts, _arrangement(leaf)))
            tensors.append(id(leaf))
        elif kind in _CONSTANTS or (kind.__module__ == "numpy" and issubclass(kind, _SCALARS)):
            described.append((kind, repr(leaf)))  # repr tells 0.0 from -0.0, and a NaN equals itself
        elif issubclass(kind, enum.Enum) and issubclass(kind, _SCALARS):
            described.append((kind, id(leaf)))
        else:
            return None
    needs_gradients = bytes(map(_requires_grad, guard.parameters)) if grad else b""
    # A program may ask whether two arguments are the same tensor.
    given_twice = () if len(set(tensors)) == len(tensors) else tuple(map(tensors.index, tensors))
    return (global_state(), guard.training, needs_gradients, accumulating, spec, given_twice, tuple(described))


def family_of(key: CallKey) -> CallKey:
    """The key without sizes: what calls have in common that one graph with symbolic sizes may serve."""
    return (*key[:-1], tuple(_without_shape(leaf) for leaf in key[-1]))


def _arrangement(tensor: torch.Tensor) -> Any:
    """How the elements lie in memory: a view, or a question for the memory format, depends on it."""
    if tensor.layout is not torch.strided or tensor.is_contiguous():
        return True
    strides = tensor.stride()
    order = sorted(range(tensor.ndim), key=strides.__getitem__)
    expected = 1
    for dimension in order:
        if strides[dimension] != expected:
            return strides
        expected *= tensor.shape[dimension]
    return "dense", *order  # the strides follow from the shape, so that the batch size may differ


def _without_shape(described: tuple[Any, ...]) -> tuple[Any, ...]:
    return described[1:] if isinstance(described[0], torch.Size) else described
