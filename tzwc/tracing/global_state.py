"""The settings of PyTorch that decide what an operator computes."""

from __future__ import annotations

from typing import Any

import torch

from tzwc.tracing.parametrized import caching
from tzwc.util.autocast import active_autocast
from tzwc.util.matmul_precision import matmul_precision

__all__ = ["global_state"]


def global_state() -> tuple[Any, ...]:
    """Everything outside of module and arguments that decides what an operator computes."""
    return (
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        active_autocast(),
        torch.are_deterministic_algorithms_enabled(),
        torch.get_default_dtype(),
        torch.get_default_device(),
        matmul_precision(),
        caching(),
    )
