"""What a manner of writing a model is: a small module, its arguments, and what is expected when it is compiled."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

__all__ = [
    "ASSUMING",
    "PER_SUBMODULE",
    "UNTOUCHED",
    "WHOLE",
    "Arguments",
    "Level",
    "Manner",
    "inputs",
    "positions",
    "scaled",
    "seeded",
]

Level = Literal["whole graph", "whole graph with assumptions", "per submodule", "untouched"]
WHOLE: Level = "whole graph"
ASSUMING: Level = "whole graph with assumptions"
PER_SUBMODULE: Level = "per submodule"
UNTOUCHED: Level = "untouched"

Arguments = tuple[tuple[Any, ...], dict[str, Any]]


def scaled(model: nn.Module) -> None:
    """Change every parameter a little, as a step of an optimiser does."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.01)


@dataclass(frozen=True)
class Manner:
    """A way in which people write models.

    Attributes:
        name: in kebab-case.
        summary: what the code does, in one sentence.
        make: makes the model, the same at every call: float64, in evaluation mode.
        arguments: makes the arguments of a call for a batch size, from the current random generators.
        level: the fall-back level that is expected in evaluation.
        keep: changes parameters or buffers in such a way that everything assumed about them stays true.
        change: changes them, or attributes, so that something assumed becomes false; ``None`` if nothing is assumed.
        trains: whether it can be trained.
        effects: what must equal eager's after each call besides results and state: paths of attributes, indices and
            keys, such as ``"block.kernels.0"``.
        random: whether the result is random; the generators are seeded before every call.
    """

    name: str
    summary: str
    make: Callable[[], nn.Module]
    arguments: Callable[[int], Arguments]
    level: Level
    keep: Callable[[Any], None] | None = scaled
    change: Callable[[Any], None] | None = None
    trains: bool = True
    effects: tuple[str, ...] = ()
    random: bool = False


def seeded(build: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    """``build``, always with the same random weights, in float64 and in evaluation mode."""

    def make() -> nn.Module:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return build().double().eval()

    return make


def inputs(*sizes: int, count: int = 1) -> Callable[[int], Arguments]:
    """Makes ``count`` positional arguments ``(batch *sizes)``."""

    def arguments(batch: int) -> Arguments:
        return tuple(torch.randn(batch, *sizes, dtype=torch.float64) for _ in range(count)), {}

    return arguments


def positions(length: int) -> Tensor:
    """``length`` positions from −1 to 1."""
    return torch.linspace(-1.0, 1.0, length, dtype=torch.float64)
