"""How to train: everything but the model and the data, in one validated declaration that goes into checkpoints."""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, cast, get_args

import torch
from torch import nn

from tzwc.data import Dataset
from tzwc.errors import InvalidArgumentError, SpecError
from tzwc.models import Kar2, Kar3, Terminator
from tzwc.models.losses import SlowLoss
from tzwc.models.validation import closest, known_fields, one_of, plain, positive_int, require
from tzwc.training import distributed
from tzwc.util.argument_checks import examined, make_exact, shown

__all__ = ["Precision", "Recipe", "check_fit"]


Precision = Literal["float32", "float64", "bfloat16"]

_OWN: dict[str, type[torch.optim.Optimizer]] = {"Kar2": Kar2, "Kar3": Kar3}


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How to train.

    Attributes:
        epochs: passes over the training split.
        batch: samples a step, over all processes and micro-batches; a rest that fills no batch is left out.
        micro_batches: parts of a batch whose gradients are accumulated; with a compiled model inside
            ``fast.accumulate()``, so that the slow networks run once for all of them.
        optimizer: ``Kar3``, ``Kar2`` or the name of a class of ``torch.optim``.
        optimizer_options: its arguments other than the learning rate.
        lr: learning rate after the warm-up.
        warm_up: epochs over which the learning rate rises in a line from ``1e-8 · lr``; then a cosine leads to zero.
        label_smoothing: of the cross entropy.
        slow_loss: variant of the slow neural loss, or ``None``; of no effect on models that have no slow networks.
        slow_weight: its factor.
        norm_penalty, norm_slow_scale: factors of :func:`tzwc.models.norm_penalty`; the first is 0 to do without.
        crop: margin of the random crops of images, padded by reflection.
        flip: mirror images at random.
        precision: ``bfloat16`` runs the model under autocast and keeps float32 parameters.
        clip: largest norm of the gradient, or ``None``.
        ema: decay of the moving average of the parameters that is evaluated, or ``None``.
        seed: of the initial parameters, the order of the samples, augmentation and dropout.

    Raises:
        SpecError: a field has a value that cannot be used.
    """

    epochs: int = 10
    batch: int = 64
    micro_batches: int = 1
    optimizer: str = "Kar3"
    optimizer_options: Mapping[str, Any] = field(default_factory=dict)
    lr: float = 1.215e-3
    warm_up: float = 1.0
    label_smoothing: float = 0.1
    slow_loss: SlowLoss | None = "channel_sum"
    slow_weight: float = 1.0
    norm_penalty: float = 5e-5
    norm_slow_scale: float = 1e-6
    crop: int = 0
    flip: bool = False
    precision: Precision = "float32"
    clip: float | None = None
    ema: float | None = None
    seed: int = 0

    @examined("a field of Recipe", SpecError)
    def __post_init__(self) -> None:
        make_exact(self)
        for name in ("epochs", "batch", "micro_batches"):
            positive_int(name, getattr(self, name))
            require(getattr(self, name) <= 2**31, name, getattr(self, name), f"at most {2**31}")
        parts = f"a multiple of micro_batches = {self.micro_batches}"
        require(self.batch % self.micro_batches == 0, "batch", self.batch, parts)
        for name, low, high in (
            ("lr", 0.0, math.inf),
            ("warm_up", 0.0, self.epochs),
            ("label_smoothing", 0.0, 1.0),
            ("slow_weight", 0.0, math.inf),
            ("norm_penalty", 0.0, math.inf),
            ("norm_slow_scale", 0.0, math.inf),
        ):
            _number(name, getattr(self, name), low, high)
        for name in ("crop", "seed"):
            value = getattr(self, name)
            whole = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 2**31
            require(whole, name, value, f"an integer from 0 to {2**31}")
        require(isinstance(self.flip, bool), "flip", self.flip, "True or False")
        for name, low, high in (("clip", 0.0, math.inf), ("ema", 0.0, 1.0)):
            if getattr(self, name) is not None:
                _number(name, getattr(self, name), low, high)
        if self.slow_loss is not None:
            one_of("slow_loss", self.slow_loss, get_args(SlowLoss))
        one_of("precision", self.precision, get_args(Precision))
        object.__setattr__(self, "optimizer", self._known_optimizer())
        options = self.optimizer_options
        named = isinstance(options, Mapping) and all(isinstance(name, str) for name in options)
        require(
            named and all(map(_is_plain, options.values())),
            "optimizer_options",
            options,
            "a mapping from names of arguments to what JSON knows: numbers, words, truths, or sequences of them",
        )
        object.__setattr__(self, "optimizer_options", dict(options))

    @property
    def dtype(self) -> torch.dtype:
        """Of parameters and inputs."""
        return torch.float64 if self.precision == "float64" else torch.float32

    def seed_for(self, purpose: int, *numbers: int) -> int:
        """A seed of its own for every purpose, epoch, step and process."""
        seed = self.seed
        for number in (purpose, *numbers):
            seed = (seed * 6364136223846793005 + number + 1442695040888963407) % 2**63
        return seed

    def make_optimizer(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """The optimiser for ``parameters``.

        Raises:
            InvalidArgumentError: it refuses ``optimizer_options``.
        """
        kind: Any = _OWN.get(self.optimizer) or getattr(torch.optim, self.optimizer)
        options = {k: tuple(v) if isinstance(v, list) else v for k, v in self.optimizer_options.items()}
        try:
            made: torch.optim.Optimizer = kind(parameters, lr=self.lr, **options)
        except (TypeError, ValueError) as error:
            if isinstance(error, InvalidArgumentError):
                raise
            raise InvalidArgumentError(
                f"optimizer_options = {shown(self.optimizer_options)}: {self.optimizer} refuses them: {error}"
            ) from error
        return made

    def lr_at(self, epoch: float) -> float:
        """The learning rate after so many epochs: a line to ``lr``, then half a cosine to zero."""
        if epoch < self.warm_up:
            start = 1e-8
            return self.lr * (start + (1 - start) * epoch / self.warm_up)
        if self.warm_up >= self.epochs:
            return self.lr
        done = min(1.0, (epoch - self.warm_up) / (self.epochs - self.warm_up))
        return self.lr * (1 + math.cos(math.pi * done)) / 2

    def to_dict(self) -> dict[str, Any]:
        """The recipe as JSON knows it."""
        return cast("dict[str, Any]", plain(dataclasses.asdict(self)))

    @classmethod
    @examined("fields", SpecError)
    def from_dict(cls, fields: Mapping[str, Any]) -> Recipe:
        """The inverse of :meth:`to_dict`; absent fields take their defaults.

        Raises:
            SpecError: an unknown field, or a value that cannot be used.
        """
        return cls(**known_fields(cls, fields))

    def _known_optimizer(self) -> str:
        names = {name.lower(): name for name in (*_OWN, *_torch_optimizers())}
        name = names.get(self.optimizer.lower()) if isinstance(self.optimizer, str) else None
        require(name is not None, "optimizer", self.optimizer, closest(self.optimizer, names.values()))
        assert name is not None
        return name


def _torch_optimizers() -> list[str]:
    # LBFGS needs a closure, and SparseAdam sparse gradients: neither fits a loop of one backward a step.
    found = [name for name, kind in vars(torch.optim).items() if isinstance(kind, type)]
    return sorted({*found} - {"Optimizer", "LBFGS", "SparseAdam"})


def _is_plain(value: object) -> bool:
    """Whether a checkpoint can hold ``value`` in its JSON, tuples aside."""
    if isinstance(value, (tuple, list)):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, (bool, int, str)) or (isinstance(value, float) and math.isfinite(value))


def _number(name: str, value: object, low: float, high: float) -> None:
    good = isinstance(value, (int, float)) and not isinstance(value, bool) and low <= value <= high
    require(good and abs(cast("float", value)) <= sys.float_info.max, name, value, f"a number from {low:g} to {high:g}")


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
