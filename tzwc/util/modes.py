"""The modes of PyTorch that must not act on work of tzwc's own."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from tzwc._torch.dispatch import DisableTorchFunction, disable_current_modes

__all__ = ["undisturbed"]


@contextmanager
def undisturbed() -> Iterator[None]:
    """Run plain tensors: no autograd, tracing, fake tensors or autocast around the block, and no garbage collection."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        with (
            DisableTorchFunction(),
            disable_current_modes(),
            torch.inference_mode(False),
            torch.no_grad(),
            torch.autocast("cpu", enabled=False),
            torch.autocast("cuda", enabled=False),
        ):
            yield
    finally:
        if enabled:
            gc.enable()
