"""Train through the compiled module: it has the parameters, the gradients and the state dict of the original.

python examples/train.py
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

import tzwc


def main() -> None:
    """Fit a hypernetwork to a random linear map."""
    torch.manual_seed(0)
    model = Written()
    fast = tzwc.compile(model)
    optimizer = torch.optim.AdamW(fast.parameters(), lr=3e-3)
    target = torch.randn(8, 8)
    for step in range(301):
        x = torch.randn(64, 8)
        loss = F.mse_loss(fast(x), x @ target)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if step % 100 == 0:
            print(f"step {step}: loss {loss.item():.4f}")


class Written(nn.Module):
    """``y = x W`` where a network writes ``W`` from a learned code."""

    def __init__(self) -> None:
        super().__init__()
        self.code = nn.Parameter(torch.randn(16))
        self.writer = nn.Sequential(nn.Linear(16, 64), nn.GELU(), nn.Linear(64, 64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map ``(batch 8)`` to ``(batch 8)``."""
        weight: torch.Tensor = self.writer(self.code)
        return x @ weight.view(8, 8)


if __name__ == "__main__":
    main()
