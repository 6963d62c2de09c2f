"""Models that read values of their parameters: in arithmetic, in comparisons, as positions, in branches."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.idioms.idiom import ASSUMING, Manner, inputs, positions, seeded

__all__ = ["MANNERS"]


class Temperature(nn.Module):
    """Reads a learned temperature as a Python float and computes with it."""

    def __init__(self, width: int = 5) -> None:
        super().__init__()
        self.fc = nn.Linear(width, width)
        self.log_temperature = nn.Parameter(torch.tensor(0.3))

    def forward(self, x: Tensor) -> Tensor:
        temperature = self.log_temperature.exp().item()
        return torch.softmax(self.fc(x) / temperature, dim=-1)


class Threshold(nn.Module):
    """Leaves out the outer taps while a learned width, read as a Python float, is small enough."""

    def __init__(self, channels: int = 3, taps: int = 7) -> None:
        super().__init__()
        self.taps = nn.Parameter(torch.randn(channels, 1, taps) / taps)
        self.width = nn.Parameter(torch.tensor(0.43))

    def forward(self, x: Tensor) -> Tensor:
        width = self.width.item()
        margin = 0 if abs(width) >= 1.0 else self.taps.shape[-1] // 2 - int(width / 0.2)
        kernel = self.taps[..., margin : self.taps.shape[-1] - margin] / self.width
        return F.conv1d(x, kernel, padding="same", groups=x.shape[1])


class FirstTap(nn.Module):
    """Looks for the first position that a learned width leaves, if there is one."""

    axis: Tensor

    def __init__(self, channels: int = 3, taps: int = 7) -> None:
        super().__init__()
        self.taps = nn.Parameter(torch.randn(channels, 1, taps) / taps)
        self.width = nn.Parameter(torch.tensor(0.45))
        self.register_buffer("axis", positions(taps))

    def forward(self, x: Tensor) -> Tensor:
        kernel = self.taps * self.width
        if self.width.item() < 1.0:
            first = torch.nonzero(self.axis > self.width)[0]
            kernel = kernel[..., first:]
        return F.conv1d(x, kernel, padding="same", groups=x.shape[1])


class SkippedBranch(nn.Module):
    """Leaves out a branch while its gate is closed."""

    def __init__(self, width: int = 5) -> None:
        super().__init__()
        self.branch = nn.Sequential(nn.Linear(width, width), nn.ReLU())
        self.gate = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Any:
        if self.gate.abs().max() < 1e-3:
            return x * 1.0
        return x + self.gate * self.branch(x)


def _weight_only(model: Any) -> None:
    with torch.no_grad():
        model.fc.weight.mul_(1.1)


def _hotter(model: Any) -> None:
    with torch.no_grad():
        model.log_temperature.add_(0.5)


def _far_wider(model: Any) -> None:
    with torch.no_grad():
        model.width.mul_(2)


def _beyond(model: Any) -> None:
    with torch.no_grad():
        model.width.fill_(1.5)


def _open(model: Any) -> None:
    with torch.no_grad():
        model.gate.fill_(0.5)


MANNERS = (
    Manner(
        "float-item-in-arithmetic",
        "reads a learned temperature with .item() and divides by it",
        seeded(Temperature),
        inputs(5),
        ASSUMING,
        keep=_weight_only,
        change=_hotter,
    ),
    Manner(
        "float-item-compared",
        "reads a learned width with .item(), compares it and counts steps in it",
        seeded(Threshold),
        inputs(3, 9),
        ASSUMING,
        change=_far_wider,
    ),
    Manner(
        "position-that-may-be-missing",
        "takes nonzero()[0], but only while a learned width is small enough for it to exist",
        seeded(FirstTap),
        inputs(3, 9),
        ASSUMING,
        change=_beyond,
    ),
    Manner(
        "branch-on-parameter",
        "returns early while the largest gate is below a threshold",
        seeded(SkippedBranch),
        inputs(5),
        ASSUMING,
        change=_open,
    ),
)
