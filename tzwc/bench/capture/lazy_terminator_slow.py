"""Slow networks of :mod:`tzwc.bench.capture.lazy_terminator`, which settle everything in their first forward.

Kept as researchers write such code: do not tidy it. What a compiler stumbles over here is what is being measured.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["KernelNet", "ModulatedKernelNet", "SlowNet", "SlowNetLocal", "conv_1x1", "kaiming_linear"]


def conv_1x1(dims: int, in_channels: int, out_channels: int) -> nn.Conv1d | nn.Conv2d:
    return (nn.Conv1d if dims == 1 else nn.Conv2d)(in_channels, out_channels, kernel_size=1, bias=True)


def kaiming_linear(layer: nn.Conv1d | nn.Conv2d, bias: float) -> None:
    nn.init.kaiming_uniform_(layer.weight, nonlinearity="linear")
    assert layer.bias is not None
    layer.bias.data.fill_(bias)


class SineFilter(nn.Module):
    """``sin(W c + b)``, the weight drawn with a gamma-distributed frequency for every hidden unit and axis."""

    def __init__(self, dims: int, hidden: int, shape: float, omega_0: float) -> None:
        super().__init__()
        self.linear = conv_1x1(dims, dims, hidden)
        gamma = torch.distributions.Gamma(torch.tensor(shape), torch.tensor(1.0)).sample((hidden, dims))
        self.linear.weight.data *= 2 * math.pi * omega_0 * gamma.view_as(self.linear.weight)
        assert self.linear.bias is not None
        self.linear.bias.data.zero_()

    def forward(self, grid: Tensor) -> Tensor:
        return torch.sin(self.linear(grid))


class KernelNet(nn.Module):
    """A multiplicative sine network from coordinates to a hyper-kernel."""

    def __init__(self, sizes: tuple[int, ...], out: int, hidden: int, layers: int, omega_0: float) -> None:
        super().__init__()
        dims = len(sizes)
        self.filters = nn.ModuleList([SineFilter(dims, hidden, 6.0 / (i + 1), omega_0) for i in range(layers + 1)])
        self.linears = nn.ModuleList([conv_1x1(dims, hidden, hidden) for _ in range(layers)])
        for linear in self.linears:
            kaiming_linear(linear, bias=1.0)  # type: ignore[arg-type]  # a ModuleList forgets what it holds
        self.bias_p = nn.Parameter(torch.zeros(1, 1, *sizes))
        self.output_linear = conv_1x1(dims, hidden, out)
        kaiming_linear(self.output_linear, bias=0.0)

    def forward(self, grid: Tensor) -> Tensor:
        out: Tensor = self.filters[0](grid)
        for i in range(1, len(self.filters)):
            hidden = self.linears[i - 1](out)
            hidden *= self.filters[i](grid)
            out = hidden + self.bias_p
        kernel: Tensor = self.output_linear(out)
        return kernel


class ModulatedKernelNet(KernelNet):
    """The same with an s-renormalisation and a product with what was seen in the batch after every layer."""

    def __init__(self, size: int, channels: int, hidden: int, layers: int, omega_0: float) -> None:
        super().__init__((size, size), channels, hidden, layers, omega_0)
        self.pool = nn.AdaptiveAvgPool2d(size)
        self.reduce = conv_1x1(2, channels, hidden)
        self.fc = conv_1x1(2, hidden, hidden)
        self.modulations = nn.ModuleList([conv_1x1(2, hidden, hidden) for _ in range(layers)])
        for modulation in self.modulations:
            kaiming_linear(modulation, bias=1.0)  # type: ignore[arg-type]
        self.alpha = 1.0
        self.beta = torch.tensor([0.1])

    def forward(self, grid: Tensor, source: Tensor | None = None) -> Tensor:
        assert source is not None, "a local kernel is written from a branch"
        seen = self.reduce(self.pool(source))
        seen = torch.mean(seen, dim=0, keepdim=True)
        seen = F.gelu(self.fc(seen))
        out: Tensor = self.filters[0](grid)
        for i in range(1, len(self.filters)):
            hidden = self.linears[i - 1](out)
            hidden *= self.filters[i](grid)
            hidden = hidden + self.bias_p
            norm = torch.norm(hidden, p=2, dim=(2, 3), keepdim=True).clamp(min=1e-12)
            # Kept at full size without a gradient, pulled by a tenth of its direction with one.
            kept = hidden.data.clone()
            hidden = self.alpha * kept + self.beta.item() * (hidden / norm)
            hidden *= self.modulations[i - 1](seen)
            out = hidden
        kernel: Tensor = self.output_linear(out)
        return kernel


class SlowNet(nn.Module):
    """Writes the hyper-kernel of a grid, whose length it learns from the first batch.

    Args:
        sizes: grid points along each axis, for the learned map alone.
        out, hidden, layers, omega_0: channels of the kernel, hidden channels, layers, frequency scale.
    """

    train_length: Tensor
    initialized: Tensor
    grid: Tensor | None
    conv_kernel: Tensor

    def __init__(self, sizes: tuple[int, ...], out: int, hidden: int, layers: int, omega_0: float) -> None:
        super().__init__()
        self.dims = len(sizes)
        self.net = KernelNet(sizes, out, hidden, layers, omega_0)
        # Not part of a checkpoint: a model that has been loaded scales its weights once more.
        self.register_buffer("train_length", torch.zeros(1).int(), persistent=False)
        self.register_buffer("initialized", torch.zeros(1).bool(), persistent=False)
        self.register_buffer("grid", None, persistent=False)
        self.conv_kernel = torch.zeros(1)  # of the last call, for a regulariser

    def handle_grid(self, x: Tensor) -> Tensor:
        if self.train_length[0] == 0:
            self.train_length[0] = x.shape[-1]
        length = int(self.train_length.item())
        assert x.shape[-1] == length, f"the grid had {length} points when training began, now it has {x.shape[-1]}"
        if self.grid is None:
            sizes = self.train_length.repeat(self.dims)
            # float32 whatever the model: the frequencies are so high that the kernel belongs to these values.
            axes = [torch.linspace(-1.0, 1.0, size.item(), dtype=torch.float32) for size in sizes]
            grid = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=0).unsqueeze(0)
            self.register_buffer("grid", grid.type_as(self.net.bias_p), persistent=False)
        assert self.grid is not None
        return self.grid

    def initialize(self, grid: Tensor) -> None:
        points = torch.prod(torch.tensor(grid.shape[2:])).item()
        self.net.output_linear.weight.data *= 1.0 / math.sqrt(points)
        self.initialized[0] = True

    def forward(self, x: Tensor) -> Tensor:
        grid = self.handle_grid(x)
        if not self.initialized[0]:
            self.initialize(grid)
        conv_kernel: Tensor = self.net(grid)
        assert conv_kernel.shape[2:] == grid.shape[2:]
        self.conv_kernel = conv_kernel
        return conv_kernel


class SlowNetLocal(nn.Module):
    """Writes a ``size × size`` kernel for every channel from a branch: one for the whole batch."""

    initialized: Tensor
    conv_kernel: Tensor

    def __init__(self, size: int, channels: int, hidden: int, layers: int, omega_0: float) -> None:
        super().__init__()
        self.net = ModulatedKernelNet(size, channels, hidden, layers, omega_0)
        self.kernel_size = torch.tensor([size])
        self.register_buffer("initialized", torch.zeros(1).bool(), persistent=False)
        self.grid: Tensor | None = None
        self.conv_kernel = torch.zeros(1)

    def handle_grid(self, like: Tensor) -> Tensor:
        if self.grid is None:
            sizes = self.kernel_size.repeat(2)
            axes = [torch.linspace(-1.0, 1.0, int(size), dtype=torch.float32) for size in sizes]
            grid = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=0).unsqueeze(0)
            self.grid = grid.type_as(like)
        return self.grid

    def forward(self, source: Tensor) -> Tensor:
        grid = self.handle_grid(self.net.bias_p)
        if not self.initialized[0]:
            self.net.output_linear.weight.data *= 1.0 / math.sqrt(self.kernel_size.item() ** 2)
            self.initialized[0] = True
        kernel: Tensor = self.net(grid, source)
        self.conv_kernel = kernel.squeeze(0).unsqueeze(1)
        assert self.conv_kernel.shape[-1] == self.kernel_size.item()
        return self.conv_kernel
