"""A data set in memory: two splits, how values are normalised, and other views of the same samples."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from tzwc.errors import InvalidArgumentError
from tzwc.util.argument_checks import exact, examined, shown

__all__ = ["Dataset", "Normalisation", "Split", "permutation"]

_CHUNK = 1000
_PERMUTATION_SEED = 0


@dataclass(frozen=True)
class Split:
    """Samples and their classes.

    Attributes:
        inputs: ``(n c h w)`` images or ``(n c l)`` sequences; uint8 in 0 … 255, or float32.
        labels: ``(n)``, int64.
    """

    inputs: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Normalisation:
    """``(x − mean) / std`` with one mean and one deviation a channel, in units of values between 0 and 1.

    The defaults leave values as they are.
    """

    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)

    @classmethod
    def of(cls, inputs: Tensor) -> Normalisation:
        """Of all values of ``inputs`` ``(n c …)``; a channel that never changes keeps its unit."""
        count = inputs.shape[0] * math.prod(inputs.shape[2:])
        total = torch.zeros(inputs.shape[1], dtype=torch.float64)
        squares = torch.zeros_like(total)
        for part in torch.split(inputs, _CHUNK):  # a large data set as float64 at once would not fit
            values = _unit(part, torch.float64).transpose(0, 1).flatten(1)
            total += values.sum(1)
            squares += values.square().sum(1)
        mean = total / count
        std = (squares / count - mean.square()).clamp_min(0).sqrt()
        std = torch.where(std > 0, std, torch.ones_like(std))
        return cls(tuple(mean.tolist()), tuple(std.tolist()))

    def __call__(self, inputs: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """Inputs ``(n c …)`` as the model reads them, in ``dtype``."""
        values = _unit(inputs, dtype)
        if self == Normalisation():
            return values
        shape = (1, -1, *[1] * (inputs.ndim - 2))
        return (values - values.new_tensor(self.mean).view(shape)) / values.new_tensor(self.std).view(shape)


@dataclass(frozen=True)
class Dataset:
    """A data set.

    Attributes:
        name: as :func:`tzwc.data.load` knows it.
        train, test: to train on, and held out.
        classes: number of classes.
        normalise: how inputs become what the model reads.
    """

    name: str
    train: Split
    test: Split
    classes: int
    normalise: Normalisation = Normalisation()

    @property
    def grid(self) -> tuple[int, ...]:
        """Grid points along each axis of a sample."""
        return tuple(self.train.inputs.shape[2:])

    @property
    def channels(self) -> int:
        """Channels of a sample."""
        return self.train.inputs.shape[1]

    def as_sequences(self, name: str, *, permuted: bool = False) -> Dataset:
        """The same samples, read pixel by pixel, row after row; ``permuted`` by one fixed order for all samples."""
        order = permutation(math.prod(self.grid)) if permuted else None

        def read(split: Split) -> Split:
            pixels = split.inputs.flatten(2)
            return Split(pixels if order is None else pixels[..., order], split.labels)

        return dataclasses.replace(self, name=name, train=read(self.train), test=read(self.test))

    @examined("sizes")
    def resized(self, sizes: Sequence[int]) -> Dataset:
        """The same samples on another grid, by linear interpolation between pixel centres.

        Args:
            sizes: grid points along each axis.

        Raises:
            InvalidArgumentError: not one size an axis.
        """
        sizes = exact(sizes)
        good = isinstance(sizes, (tuple, list)) and all(type(size) is int and size > 0 for size in sizes)
        if not good or len(sizes) != len(self.grid):
            expected = f"{len(self.grid)} positive number(s), one for each axis of {self.grid}"
            raise InvalidArgumentError(f"sizes = {shown(sizes)}: expected {expected}")
        mode = "bilinear" if len(sizes) == 2 else "linear"

        def resize(split: Split) -> Split:
            values = _unit(split.inputs, torch.float32)
            return Split(F.interpolate(values, size=tuple(sizes), mode=mode), split.labels)

        return dataclasses.replace(self, train=resize(self.train), test=resize(self.test))


def permutation(length: int) -> Tensor:
    """The order in which permuted sequences of that length hold their pixels, int64 ``(length)``; always the same."""
    return torch.randperm(length, generator=torch.Generator().manual_seed(_PERMUTATION_SEED))


def _unit(inputs: Tensor, dtype: torch.dtype) -> Tensor:
    """Bytes between 0 and 1; other values as they are."""
    return inputs.to(dtype) / 255 if inputs.dtype == torch.uint8 else inputs.to(dtype)
