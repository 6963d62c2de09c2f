"""What the dispatcher is asked, and what it may answer."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import torch

from tzwc._torch import pytree
from tzwc.runtime.module_guard import ModuleGuard
from tzwc.runtime.specialisation import Specialisation

__all__ = ["Bypass", "Call", "Declined", "Hit", "Miss"]


@dataclass(frozen=True)
class Call:
    """One call of the module.

    Attributes:
        args, kwargs: as given.
        leaves, spec: the same, flat.
        accumulating: whether gradients of static values are being accumulated.
    """

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    leaves: list[Any]
    spec: pytree.TreeSpec
    accumulating: bool

    @property
    def tensors(self) -> list[torch.Tensor]:
        """Tensors among the arguments, in order."""
        return [leaf for leaf in self.leaves if isinstance(leaf, torch.Tensor)]


class Declined:
    """Calls of a kind that has no graph.

    Args:
        calls: how many of them run as they were written before another graph is tried; by default, all.
    """

    def __init__(self, calls: int | None = None) -> None:
        self._left = itertools.repeat(None) if calls is None else itertools.repeat(None, calls)

    def applies(self) -> bool:
        """Whether this call, which is counted, runs as it was written. Thread-safe."""
        return next(self._left, self) is None


@dataclass(frozen=True)
class Hit:
    """A graph serves the call.

    Attributes:
        guard: of the state that the module is in.
        tensors: of the graph's slots.
    """

    graph: Specialisation
    guard: ModuleGuard
    tensors: list[torch.Tensor]


@dataclass(frozen=True)
class Miss:
    """A graph is to be found or made for the call; ``known`` is what there was for its kind."""

    known: Declined | None = None


@dataclass(frozen=True)
class Bypass:
    """No graph could serve such a call."""

    reason: str
