"""A model whose weights are written by a layer."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Written(nn.Module):
    """The weights are written by a layer from a code: all that can become stale."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.code = nn.Parameter(torch.randn(3))
        self.write = nn.Linear(3, 16)

    def forward(self, x: Tensor) -> Tensor:
        weight: Tensor = self.write(self.code)
        return x @ weight.view(4, 4)
