"""A model that is compiled in no time, and factories that make none."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Tiny(nn.Module):
    """One product with a static factor."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight.exp()


def raising() -> nn.Module:
    raise LookupError("on purpose")


def needy(size: int) -> nn.Module:
    return nn.Linear(size, size)


nothing = None
