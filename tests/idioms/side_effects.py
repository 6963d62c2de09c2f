"""Models that leave something behind for the code around them."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.idioms.idiom import UNTOUCHED, WHOLE, Manner, inputs, positions, seeded

__all__ = ["MANNERS"]


class KernelConv(nn.Module):
    """Keeps its generated kernel, which a regulariser reads after the forward."""

    grid: Tensor

    def __init__(self, channels: int = 4, size: int = 5) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Linear(8, channels))
        self.register_buffer("grid", positions(size).unsqueeze(-1))
        self.conv_kernel: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        kernel = self.net(self.grid).t().unsqueeze(1)
        self.conv_kernel = kernel
        return F.conv1d(x, kernel, padding=kernel.shape[-1] // 2, groups=x.shape[1])


class SlowBlock(nn.Module):
    """One block: its weight is generated, and so is a loss on the activations that it weighs."""

    def __init__(self, width: int = 5) -> None:
        super().__init__()
        self.latent = nn.Parameter(torch.randn(width, 3))
        self.slow = nn.Linear(3, width)
        self.slow_neural_loss: Any = 0.0

    def forward(self, x: Tensor) -> Tensor:
        weight = torch.tanh(self.slow(self.latent))
        self.slow_neural_loss = (weight**2).mean()
        return x @ weight


class AccumulatedLoss(nn.Module):
    """Adds the losses of its blocks up in an attribute that is reset when forward begins."""

    def __init__(self, width: int = 5, blocks: int = 3) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(SlowBlock(width) for _ in range(blocks))
        self.slow_neural_loss: Any = 0.0
        self.activity: Any = 0.0

    def forward(self, x: Tensor) -> Tensor:
        self.slow_neural_loss = 0.0
        self.activity = 0.0
        for block in self.blocks:
            x = F.gelu(block(x)) + x
            self.slow_neural_loss += block.slow_neural_loss
            self.activity += x.abs().mean()
        return x


class PythonCounter(nn.Module):
    """Counts its calls in a Python int."""

    def __init__(self, width: int = 5) -> None:
        super().__init__()
        self.fc = nn.Linear(width, 2)
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        out: Tensor = self.fc(x)
        return out


class TensorCounter(nn.Module):
    """Counts its calls in a buffer, which scales the result."""

    calls: Tensor

    def __init__(self, width: int = 5) -> None:
        super().__init__()
        self.fc = nn.Linear(width, 2)
        self.register_buffer("calls", torch.zeros((), dtype=torch.long))

    def forward(self, x: Tensor) -> Any:
        self.calls += 1
        return self.fc(x) / self.calls


class AlternatingCounter(nn.Module):
    """A Python counter decides which of two weights is used."""

    def __init__(self, width: int = 5) -> None:
        super().__init__()
        self.even = nn.Parameter(torch.randn(width))
        self.odd = nn.Parameter(torch.randn(width))
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return x * (self.odd if self.calls % 2 else self.even)


class MovingAverage(nn.Module):
    """Keeps a moving average of its input by binding the buffer anew, and a running peak in place."""

    average: Tensor
    peak: Tensor

    def __init__(self, width: int = 5) -> None:
        super().__init__()
        self.fc = nn.Linear(width, width)
        self.register_buffer("average", torch.zeros(width))
        self.register_buffer("peak", torch.zeros(width))

    def forward(self, x: Tensor) -> Any:
        self.average = 0.9 * self.average + 0.1 * x.detach().mean(0)
        torch.maximum(self.peak, x.detach().abs().amax(0), out=self.peak)
        return self.fc(x - self.average) / (1 + self.peak)


class CollectedMaps(nn.Module):
    """Collects the attention maps of its layers in a list that it makes anew in every forward."""

    def __init__(self, width: int = 6, layers: int = 2) -> None:
        super().__init__()
        self.queries = nn.ModuleList(nn.Linear(width, width) for _ in range(layers))
        self.attention_maps: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.attention_maps = []
        for query in self.queries:
            weights = torch.softmax(query(x) @ x.transpose(-1, -2), dim=-1)
            self.attention_maps.append(weights)
            x = weights @ x
        return x


class PrintsConstant(nn.Module):
    """Says how large it is."""

    def __init__(self, width: int = 5) -> None:
        super().__init__()
        self.fc = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        print("kernel size:", self.fc.weight.shape[0])
        return torch.relu(self.fc(x))


class PrintsShape(nn.Module):
    """Says what goes through it."""

    def __init__(self, width: int = 5) -> None:
        super().__init__()
        self.enter = nn.Sequential(nn.Linear(width, width), nn.ReLU())
        self.leave = nn.Sequential(nn.Linear(width, width), nn.Tanh())

    def forward(self, x: Tensor) -> Any:
        x = self.enter(x)
        print(f"after enter: {tuple(x.shape)}")
        return self.leave(x)


MANNERS = (
    Manner(
        "kept-kernel",
        "sets self.conv_kernel to its generated kernel, for a regulariser",
        seeded(KernelConv),
        inputs(4, 9),
        WHOLE,
        effects=("conv_kernel",),
    ),
    Manner(
        "accumulated-loss",
        "adds up self.slow_neural_loss over its blocks, after a reset at the start of forward",
        seeded(AccumulatedLoss),
        inputs(5),
        WHOLE,
        effects=("slow_neural_loss", "activity", "blocks.0.slow_neural_loss", "blocks.2.slow_neural_loss"),
    ),
    Manner(
        "python-counter",
        "counts its calls in a Python int that nothing in forward reads",
        seeded(PythonCounter),
        inputs(5),
        WHOLE,
        effects=("calls",),
    ),
    Manner(
        "tensor-counter",
        "counts its calls in a buffer and divides by it",
        seeded(TensorCounter),
        inputs(5),
        WHOLE,
    ),
    Manner(
        "counter-decides",
        "alternates between two weights by a Python counter",
        seeded(AlternatingCounter),
        inputs(5),
        UNTOUCHED,
        effects=("calls",),
    ),
    Manner(
        "moving-average",
        "binds a buffer anew to its moving average and writes a running peak with out=",
        seeded(MovingAverage),
        inputs(5),
        WHOLE,
    ),
    Manner(
        "collected-maps",
        "collects attention maps in a list attribute that starts empty in every forward",
        seeded(CollectedMaps),
        inputs(4, 6),
        WHOLE,
        effects=("attention_maps.0", "attention_maps.1"),
    ),
    Manner(
        "prints-constant",
        "prints the size of its weight in every forward",
        seeded(PrintsConstant),
        inputs(5),
        WHOLE,
    ),
    Manner(
        "prints-shape",
        "prints the shape of its activations, batch included, between two submodules",
        seeded(PrintsShape),
        inputs(5),
        WHOLE,
    ),
)
