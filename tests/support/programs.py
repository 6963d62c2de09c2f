"""Small modules that tests compile, one for each way of writing a model that matters to them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["HyperConv", "SumsGradients", "WithBuffers", "example"]


class HyperConv(nn.Module):
    """A depthwise convolution whose kernel a coordinate network writes, between two mixers: the family in miniature."""

    grid: Tensor

    def __init__(self, channels: int = 6, size: int = 7, hidden: int = 8) -> None:
        super().__init__()
        self.register_buffer("grid", torch.linspace(-1, 1, size).reshape(-1, 1))
        self.slow = nn.Sequential(nn.Linear(1, hidden), nn.Tanh(), nn.Linear(hidden, channels))
        self.enter = nn.Conv1d(channels, channels, 1)
        self.leave = nn.Linear(channels, 3)
        self.scale = 2.0

    def forward(self, x: Tensor) -> Tensor:
        kernel = self.slow(self.grid).t().unsqueeze(1)
        hidden = F.gelu(self.enter(x))
        mixed = F.conv1d(hidden, kernel, padding=kernel.shape[-1] // 2, groups=x.shape[1])
        return self.leave(mixed.mean(-1)) * self.scale


class WithBuffers(nn.Module):
    """Batch normalisation that updates its statistics, dropout, a counter, and dictionaries in and out."""

    calls: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(inplace=True), nn.Dropout(0.25))
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))
        self.table = [torch.linspace(0, 1, 8)]

    def forward(self, batch: dict[str, Tensor], *, double: bool = False) -> dict[str, Tensor | int]:
        with torch.no_grad():
            self.calls += 1
        hidden = self.net(batch["x"]) * self.table[0]
        return {"hidden": 2 * hidden if double else hidden, "width": 8}


class _Negate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        del ctx
        return x.clone()

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> Tensor:  # type: ignore[override]
        del ctx
        return -gradient


class SumsGradients(nn.Module):
    """A custom derivative, which a graph of operators does not show."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4))

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = _Negate.apply(x * self.weight)
        return result


def example(batch: int = 5, channels: int = 6, length: int = 16, seed: int = 0) -> Tensor:
    """A float64 batch for :class:`HyperConv`."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, channels, length, generator=generator, dtype=torch.float64)
