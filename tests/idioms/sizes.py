"""Models whose sizes, branches and loops are decided by their own parameters and buffers."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.idioms.idiom import ASSUMING, Manner, inputs, positions, seeded

__all__ = ["MANNERS"]


class Sine(nn.Module):
    """A sine with a frequency."""

    def __init__(self, omega: float = 3.0) -> None:
        super().__init__()
        self.omega = omega

    def forward(self, x: Tensor) -> Tensor:
        return torch.sin(self.omega * x)


class CroppedKernel(nn.Module):
    """A convolution whose generated kernel is cropped to where a learned Gaussian is above a threshold."""

    grid: Tensor

    def __init__(self, channels: int = 3, size: int = 17, threshold: float = 0.1) -> None:
        super().__init__()
        self.channels = channels
        self.net = nn.Sequential(nn.Linear(1, 8), Sine(), nn.Linear(8, channels * channels))
        self.mask_width = nn.Parameter(torch.tensor([0.2]))
        self.threshold = threshold
        self.register_buffer("grid", positions(size))

    def forward(self, x: Tensor) -> Tensor:
        size = self.grid.shape[0]
        root = self.mask_width.abs() * math.sqrt(-2 * math.log(self.threshold))
        step = 2 / (size - 1)
        half = torch.floor(root / step).int().item()
        centre = size // 2
        crop_needed = half < centre
        grid = self.grid
        if crop_needed:
            grid = grid[int(centre - half) : int(centre + half + 1)]
        kernel = self.net(grid.unsqueeze(-1)).t().reshape(self.channels, self.channels, -1)
        kernel = kernel * torch.exp(-0.5 * (grid / self.mask_width) ** 2)
        return F.conv1d(x, kernel, padding=kernel.shape[-1] // 2)


class CroppedImage(nn.Module):
    """The same in two dimensions with a width for each axis; the bounds of the slices are tensors."""

    axis: Tensor

    def __init__(self, channels: int = 3, size: int = 9) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.randn(channels, 1, size, size) / size)
        self.widths = nn.Parameter(torch.tensor([0.2, 0.3]))
        self.register_buffer("axis", positions(size))

    def gaussian(self) -> Tensor:
        rows = torch.exp(-0.5 * (self.axis[:, None] / self.widths[0]) ** 2)
        return rows * torch.exp(-0.5 * (self.axis[None, :] / self.widths[1]) ** 2)

    def forward(self, x: Tensor) -> Tensor:
        size = self.axis.numel()
        kernel = self.kernel * self.gaussian()
        reach = torch.floor(2.0 * self.widths.detach().abs() / (2 / (size - 1))).long()
        reach = torch.clamp(reach, 1, size // 2)
        if (reach < size // 2).any():
            low, high = size // 2 - reach, size // 2 + reach + 1
            kernel = kernel[:, :, low[0] : high[0], low[1] : high[1]]
        return F.conv2d(x, kernel, padding=(kernel.shape[-2] // 2, kernel.shape[-1] // 2), groups=x.shape[1])


class NonzeroSupport(nn.Module):
    """Keeps the taps from the first to the last that are large enough."""

    def __init__(self, channels: int = 4, size: int = 9) -> None:
        super().__init__()
        decay = torch.exp(-3 * torch.linspace(-1, 1, size).abs())
        self.taps = nn.Parameter(torch.linspace(0.5, 1.5, channels)[:, None] * decay)

    def forward(self, x: Tensor) -> Tensor:
        support = (self.taps.abs().amax(0) > 0.2).nonzero().squeeze(-1)
        kernel = self.taps[:, support[0] : support[-1] + 1]
        return F.conv1d(x, kernel.unsqueeze(1), groups=kernel.shape[0])


class Steps(nn.Module):
    """Repeats a layer as often as a buffer says."""

    steps: Tensor

    def __init__(self, width: int = 5) -> None:
        super().__init__()
        self.cell = nn.Linear(width, width)
        self.register_buffer("steps", torch.tensor(3))

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(int(self.steps)):
            x = x + 0.1 * torch.tanh(self.cell(x))
        return x


class LearnedTopK(nn.Module):
    """A learned ratio decides how many channels survive."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.ratio = nn.Parameter(torch.tensor(0.4))
        self.fc = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Any:
        hidden = self.fc(x)
        count = max(1, int(torch.sigmoid(self.ratio) * hidden.shape[-1]))
        values, _ = hidden.topk(count, dim=-1)
        return values * torch.sigmoid(self.ratio)


class MaskedChannels(nn.Module):
    """A boolean buffer chooses the channels that go on."""

    mask: Tensor

    def __init__(self, width: int = 6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(width))
        self.register_buffer("mask", torch.tensor([True, False] * (width // 2)))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cumsum((x * self.weight)[:, self.mask], dim=-1)


def _wider(model: Any) -> None:
    with torch.no_grad():
        model.mask_width.fill_(0.6)


def _widths(model: Any) -> None:
    with torch.no_grad():
        model.widths.copy_(torch.tensor([0.4, 0.15]))


def _louder(model: Any) -> None:
    with torch.no_grad():
        model.taps.mul_(2.0)


def _more_steps(model: Any) -> None:
    model.steps.add_(2)


def _smaller_ratio(model: Any) -> None:
    with torch.no_grad():
        model.ratio.fill_(-1.0)


def _another_mask(model: Any) -> None:
    model.mask[1] = True


MANNERS = (
    Manner(
        "flexible-kernel-size",
        "crops a generated kernel where a learned Gaussian falls below a threshold, floor(root / step).int().item()",
        seeded(CroppedKernel),
        inputs(3, 20),
        ASSUMING,
        change=_wider,
    ),
    Manner(
        "slices-by-tensors",
        "crops a kernel on two axes by slices whose bounds are tensors made from learned widths",
        seeded(CroppedImage),
        inputs(3, 8, 10),
        ASSUMING,
        change=_widths,
    ),
    Manner(
        "nonzero-support",
        "keeps the taps between the first and the last that (taps > threshold).nonzero() finds",
        seeded(NonzeroSupport),
        inputs(4, 16),
        ASSUMING,
        change=_louder,
    ),
    Manner(
        "loop-over-buffer",
        "runs a layer range(int(self.steps)) times, steps being a buffer",
        seeded(Steps),
        inputs(5),
        ASSUMING,
        change=_more_steps,
    ),
    Manner(
        "learned-topk",
        "keeps as many channels as a learned ratio says",
        seeded(LearnedTopK),
        inputs(8),
        ASSUMING,
        change=_smaller_ratio,
    ),
    Manner(
        "static-boolean-mask",
        "indexes its activations with a boolean buffer",
        seeded(MaskedChannels),
        inputs(6),
        ASSUMING,
        change=_another_mask,
    ),
)
