"""What ``tzwc train NAME`` trains: a model's declaration, the data it fits, and a recipe."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from tzwc.errors import SpecError
from tzwc.models import TerminatorSpec, terminator_spec
from tzwc.models.validation import closest, refuse
from tzwc.training.recipe import Recipe
from tzwc.util.argument_checks import exact, examined

__all__ = ["TASKS", "Task", "task"]

_WIDTHS: Mapping[str, Any] = {
    "global_net": {"hidden": 32},
    "local_net": {"hidden": 16},
    "hci_net": {"hidden": 16},
    "interaction_spatial_net": {"hidden": 32},
    "dropout": 0.0,
}
"""Of the preset ``digits``, for other small tasks."""


def _sequence(length: int, *taps: int) -> TerminatorSpec:
    """A small network for sequences, with as many blocks and channels as the preset ``digits``."""
    base = terminator_spec("smnist")
    local = [dataclasses.replace(branch, kernel_size=k) for branch, k in zip(base.local, taps, strict=True)]
    return terminator_spec("smnist", sizes=(length,), factors=(12, 2, 1), local=local, **_WIDTHS)


@dataclass(frozen=True)
class Task:
    """What to train, on what, how.

    Attributes:
        name: of the task.
        data: name of the data set.
        spec: of the model.
        recipe: how to train it.
    """

    name: str
    data: str
    spec: TerminatorSpec
    recipe: Recipe


_SMALL = Recipe(epochs=20, lr=1e-3, warm_up=2, ema=None)
_CIFAR10 = Recipe(epochs=100, warm_up=8, crop=4, flip=True, optimizer_options={"betas": (0.5, 0.95)})
_CIFAR100 = dataclasses.replace(_CIFAR10, lr=1.20925e-3, optimizer_options={"betas": (0.75, 0.99)})
_LONG = dataclasses.replace(_CIFAR10, crop=0, flip=False)

TASKS: Final[Mapping[str, Task]] = {
    entry.name: entry
    for entry in (
        Task("digits", "digits", terminator_spec("digits"), dataclasses.replace(_SMALL, crop=1)),
        Task("sdigits", "sdigits", _sequence(64, 9, 49, 25, 49), _SMALL),
        Task("pdigits", "pdigits", _sequence(64, 9, 49, 25, 49), _SMALL),
        Task("mnist1d", "mnist1d", _sequence(40, 9, 31, 25, 31), _SMALL),
        Task(
            "mnist",
            "mnist",
            terminator_spec("cifar10", sizes=(28, 28), in_channels=1, factors=(12, 3, 2, 2, 2)),
            dataclasses.replace(_CIFAR10, flip=False, crop=2),
        ),
        Task("smnist", "smnist", terminator_spec("smnist"), _LONG),
        Task("pmnist", "pmnist", terminator_spec("pmnist"), _LONG),
        Task("cifar10", "cifar10", terminator_spec("cifar10"), _CIFAR10),
        Task("scifar10", "scifar10", terminator_spec("scifar10"), _LONG),
        Task("cifar100", "cifar100", terminator_spec("cifar100"), _CIFAR100),
        Task("stl10", "stl10", terminator_spec("stl10"), dataclasses.replace(_CIFAR10, crop=12)),
    )
}
"""Learning rates, betas, warm-up, crop and mirror images of CIFAR-10 and CIFAR-100 are the released ones; the other
tasks take them over, without what would not fit the data."""


@examined("name", SpecError)
def task(name: str) -> Task:
    """The task of that name.

    Raises:
        SpecError: there is none.
    """
    name = exact(name)
    if not isinstance(name, str) or name not in TASKS:
        raise refuse("preset", name, closest(name, TASKS))
    return TASKS[name]
