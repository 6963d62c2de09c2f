"""Autograd's state of a thread."""

from __future__ import annotations

import torch
from torch.autograd import forward_ad as _forward_ad

AutoDispatchBelowAutograd = torch._C._AutoDispatchBelowAutograd
"""Context manager in which operators skip autograd: for kernels whose derivatives are registered elsewhere, and for
captures, which record what is below."""

any_requires_grad = torch._C._any_requires_grad
"""Whether an argument (also one in a list) is a tensor that requires a gradient."""


def forward_mode_active() -> bool:
    """Whether a level of forward-mode differentiation is open, by ``torch.func.jvp`` for example."""
    return _forward_ad._current_level >= 0
