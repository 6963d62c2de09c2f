"""The exponential moving average of a model's parameters."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from tzwc._torch import foreach

__all__ = ["MovingAverage"]


class MovingAverage:
    """``average ← decay · average + (1 − decay) · parameter`` after every step; starts as the parameters.

    Args:
        parameters: what to average.
        decay: in ``[0, 1]``. During the first steps ``min(decay, (1 + step) / (10 + step))`` is used, so that the
            initial parameters are soon forgotten.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], decay: float) -> None:
        self.parameters = list(parameters)
        self.decay = decay
        self.values: list[Tensor] = [p.detach().clone() for p in self.parameters]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the parameters after step ``step``, counted from 0."""
        decay = min(self.decay, (1 + step) / (10 + step))
        foreach.lerp_(self.values, [p.detach() for p in self.parameters], 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The parameters are the average inside the block, and what they were behind it, to the last bit."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    @torch.no_grad()
    def _exchange(self) -> None:
        for parameter, value in zip(self.parameters, self.values, strict=True):
            kept = parameter.detach().clone()
            parameter.copy_(value)
            value.copy_(kept)
