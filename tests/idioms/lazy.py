"""Models that finish making themselves in their first forward."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.idioms.idiom import ASSUMING, WHOLE, Manner, inputs, seeded

__all__ = ["MANNERS"]


class FlagBuffer(nn.Module):
    """Scales its weight in the first forward; whether it has is kept in a buffer."""

    initialized: Tensor

    def __init__(self, width: int = 6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(width, width))
        self.register_buffer("initialized", torch.zeros(1, dtype=torch.bool))

    def forward(self, x: Tensor) -> Tensor:
        if not self.initialized[0]:
            self.weight.data *= 1 / math.sqrt(self.weight.shape[0])
            self.initialized[0] = True
        return torch.tanh(x @ self.weight)


class FlagInList(nn.Module):
    """The flags of its layers are tensors in a plain list."""

    def __init__(self, width: int = 6, layers: int = 2) -> None:
        super().__init__()
        self.layers: Any = nn.ModuleList(nn.Linear(width, width) for _ in range(layers))
        self.initialized = [torch.tensor(False) for _ in range(layers)]

    def forward(self, x: Tensor) -> Tensor:
        for index, layer in enumerate(self.layers):
            if not self.initialized[index]:
                layer.weight.data.mul_(2.0)
                layer.bias.data.zero_()
                self.initialized[index] = torch.tensor(True)
            x = torch.sin(layer(x))
        return x


class FlagPython(nn.Module):
    """The flag is a Python bool."""

    def __init__(self, width: int = 6) -> None:
        super().__init__()
        self.fc = nn.Linear(width, width)
        self.ready = False

    def forward(self, x: Tensor) -> Tensor:
        if not self.ready:
            with torch.no_grad():
                self.fc.weight.mul_(0.7)
            self.ready = True
        return F.relu(self.fc(x))


class FirstBatchStatistics(nn.Module):
    """Shift and scale are set from the first batch, so that its activations are standardised."""

    initialized: Tensor

    def __init__(self, width: int = 6) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(width))
        self.scale = nn.Parameter(torch.ones(width))
        self.register_buffer("initialized", torch.tensor(0, dtype=torch.uint8))

    def forward(self, x: Tensor) -> Tensor:
        if self.initialized.item() == 0:
            self.shift.data.copy_(-x.mean(0))
            self.scale.data.copy_(1 / (x.std(0, unbiased=False) + 1e-2))
            self.initialized.fill_(1)
        return (x + self.shift) * self.scale


class GridAttribute(nn.Module):
    """Makes a coordinate grid when it first sees the size of its input, and keeps it as a plain attribute."""

    def __init__(self, channels: int = 4) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Linear(8, channels))
        self.span = 1.0
        self.grid: Tensor | None = None

    def forward(self, x: Tensor) -> Any:
        if self.grid is None or self.grid.shape[0] != x.shape[-1]:
            self.grid = torch.linspace(-self.span, self.span, x.shape[-1]).type_as(x).unsqueeze(-1)
        return x * self.net(self.grid).t()


class GridBuffer(nn.Module):
    """Registers the grid as a buffer inside of forward."""

    def __init__(self, channels: int = 4) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, channels))
        self.span = 1.0

    def forward(self, x: Tensor) -> Any:
        if not hasattr(self, "grid"):
            axes = [torch.linspace(-self.span, self.span, s, device=x.device, dtype=x.dtype) for s in x.shape[-2:]]
            self.register_buffer("grid", torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1))
        kernel = self.net(self.grid).permute(2, 0, 1).unsqueeze(0)
        return x * kernel


class BufferEachCall(nn.Module):
    """Registers what it generated as a buffer in every forward, for whoever saves the model."""

    def __init__(self, channels: int = 4, taps: int = 5) -> None:
        super().__init__()
        self.latent = nn.Parameter(torch.randn(channels, 3))
        self.decode = nn.Linear(3, taps)

    def forward(self, x: Tensor) -> Tensor:
        kernel = self.decode(self.latent).unsqueeze(1)
        self.register_buffer("last_kernel", kernel.detach().clone())
        return F.conv1d(x, kernel, padding=2, groups=x.shape[1])


class StoredLength(nn.Module):
    """Remembers the length it first saw in a buffer and reads it back as a number.

    Args:
        reading: how it is read: ``"item"``, ``"int"`` or ``"repeat"``.
    """

    train_length: Tensor

    def __init__(self, reading: str, channels: int = 4) -> None:
        super().__init__()
        self.reading = reading
        self.net = nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Linear(8, channels))
        self.register_buffer("train_length", torch.zeros(1, dtype=torch.int32))

    def _length(self) -> int:
        if self.reading == "item":
            return int(self.train_length.item())
        if self.reading == "int":
            return int(self.train_length)
        sizes: list[int] = self.train_length.repeat(2).tolist()
        return sizes[-1]

    def forward(self, x: Tensor) -> Tensor:
        if self.train_length[0] == 0:
            self.train_length[0] = x.shape[-1]
        length = self._length()
        grid = torch.linspace(-1, 1, length).type_as(x)
        kernel = self.net(grid.unsqueeze(-1)).t().unsqueeze(1)
        padded = F.pad(x, (length - 1, 0))
        return F.conv1d(padded, kernel, groups=x.shape[1])


class Lazy(nn.Module):
    """Its first linear layer takes its width from the first input, and fixed weights from a hook."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.LazyLinear(8), nn.GELU(), nn.Linear(8, 3))
        self.body[0].register_forward_pre_hook(self._fill)
        self.filled = False

    def _fill(self, layer: nn.Module, _: object) -> None:
        if not self.filled:  # random ones would depend on when the first call is made
            self.filled = True
            for parameter in layer.parameters():
                parameter.data.copy_(torch.linspace(-1, 1, parameter.numel()).view_as(parameter))

    def forward(self, x: Tensor) -> Any:
        return self.body(x.flatten(1))


def _flag_off(model: Any) -> None:
    model.initialized[0] = False


def _first_flag_off(model: Any) -> None:
    model.initialized[0] = torch.tensor(False)


def _not_ready(model: Any) -> None:
    model.ready = False


def _not_initialized(model: Any) -> None:
    model.initialized.zero_()


def _another_grid(model: Any) -> None:
    model.span = 2.0
    model.grid = None


def _no_grid(model: Any) -> None:
    model.span = 2.0
    if hasattr(model, "grid"):
        del model.grid


def _shorter(model: Any) -> None:
    model.train_length.fill_(7)


def _stored_length(reading: str, words: str) -> Manner:
    return Manner(
        f"stored-length-{reading}",
        f"remembers the length it was trained on in a buffer and reads it with {words}",
        seeded(lambda: StoredLength(reading)),
        inputs(4, 11),
        ASSUMING,
        change=_shorter,
    )


MANNERS = (
    Manner(
        "lazy-flag-buffer",
        "scales its weight in the first forward if not self.initialized[0], a buffer",
        seeded(FlagBuffer),
        inputs(6),
        ASSUMING,
        change=_flag_off,
    ),
    Manner(
        "lazy-flag-in-list",
        "keeps a tensor flag for each layer in a plain list and sets it when the layer is initialised",
        seeded(FlagInList),
        inputs(6),
        ASSUMING,
        change=_first_flag_off,
        effects=("initialized.0", "initialized.1"),
    ),
    Manner(
        "lazy-flag-python",
        "scales its weight in the first forward, remembered by a Python bool",
        seeded(FlagPython),
        inputs(6),
        WHOLE,
        change=_not_ready,
        effects=("ready",),
    ),
    Manner(
        "lazy-from-first-batch",
        "sets shift and scale from the statistics of the first batch",
        seeded(FirstBatchStatistics),
        inputs(6),
        ASSUMING,
        change=_not_initialized,
    ),
    Manner(
        "lazy-grid-attribute",
        "builds a coordinate grid on first use and keeps it as an attribute",
        seeded(GridAttribute),
        inputs(4, 9),
        WHOLE,
        change=_another_grid,
        effects=("grid",),
    ),
    Manner(
        "lazy-grid-buffer",
        "calls register_buffer for its grid inside of the first forward",
        seeded(GridBuffer),
        inputs(4, 5, 6),
        WHOLE,
        change=_no_grid,
    ),
    Manner(
        "buffer-registered-each-call",
        "registers the kernel it generated as a buffer in every forward",
        seeded(BufferEachCall),
        inputs(4, 9),
        WHOLE,
    ),
    _stored_length("item", ".item()"),
    _stored_length("int", "int(tensor)"),
    _stored_length("repeat", "size.repeat(2).tolist()"),
    Manner(
        "lazy-linear",
        "contains a LazyLinear, which becomes a Linear in the first call",
        seeded(Lazy),
        inputs(2, 5),
        WHOLE,
        effects=("filled",),
    ),
)
