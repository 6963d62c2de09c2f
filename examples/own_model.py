"""Compile a model of your own: a 1-D convolution whose kernel is written by a small network over coordinates.

python examples/own_model.py
tzwc compile examples.own_model:ImplicitConvolution --input 8x16x256 --dump out/own
"""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

import tzwc


class ImplicitConvolution(nn.Module):
    """Depthwise convolution with a kernel as long as the sequence; the kernel is a function of the tap's position."""

    positions: Tensor

    def __init__(self, channels: int = 16, taps: int = 255, hidden: int = 32) -> None:
        super().__init__()
        self.register_buffer("positions", rearrange(torch.linspace(-1, 1, taps), "k -> k 1"))
        self.hidden = nn.Linear(1, hidden)
        self.output = nn.Linear(hidden, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Filter ``(batch channels length)``."""
        kernel = rearrange(self.output(F.gelu(self.hidden(self.positions))), "k c -> c 1 k")
        return F.conv1d(x, kernel, padding="same", groups=x.shape[1])


def main() -> None:
    """Compile, call, change a parameter, call again."""
    model = ImplicitConvolution()
    fast = tzwc.compile(model)
    x = torch.randn(8, 16, 256)
    with torch.no_grad():  # kept values are used when no gradients are needed
        print("largest difference:", (fast(x) - model(x)).abs().max().item())
        model.hidden.weight.mul_(2)  # noticed: the kernel is made again
        print("after a change:    ", (fast(x) - model(x)).abs().max().item())
    print(fast.report())


if __name__ == "__main__":
    main()
