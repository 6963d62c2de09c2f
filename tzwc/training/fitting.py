"""Whether a model, its data and a recipe belong together, said before anything is trained."""

from __future__ import annotations

from torch import nn

from tzwc.data import Dataset
from tzwc.errors import InvalidArgumentError
from tzwc.models import Terminator
from tzwc.training import distributed
from tzwc.training.recipe import Recipe

__all__ = ["check_fit"]


def check_fit(model: nn.Module, data: Dataset, recipe: Recipe) -> None:
    """Check that ``model`` can be trained on ``data`` as ``recipe`` says.

    Raises:
        InvalidArgumentError: a batch cannot be made or divided, nothing is held out, or a Terminator reads other
            samples or has fewer classes.
    """
    parts = distributed.world() * recipe.micro_batches
    if recipe.batch > len(data.train) or recipe.batch % parts:
        raise InvalidArgumentError(
            f"batch = {recipe.batch}: expected a multiple of {parts} (processes times micro_batches), "
            f"at most the {len(data.train)} samples of {data.name}"
        )
    if not len(data.test):
        raise InvalidArgumentError(f"data = {data.name!r}: no samples are held out; expected some to evaluate with")
    if not isinstance(model, Terminator):
        return
    reads, sample = (model.spec.in_channels, *model.spec.sizes), (data.channels, *data.grid)
    if reads != sample:
        raise InvalidArgumentError(
            f"model: it reads {reads}, channels first, but the samples of {data.name} are {sample}"
        )
    if model.spec.classes < data.classes:
        raise InvalidArgumentError(f"model: it tells {model.spec.classes} classes, but {data.name} has {data.classes}")
