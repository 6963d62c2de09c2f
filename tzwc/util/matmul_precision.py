"""How precise float32 products have to be, as torch has been told by either of its two interfaces."""

from __future__ import annotations

import torch

__all__ = ["matmul_precision"]


def matmul_precision() -> str:
    """What :func:`torch.get_float32_matmul_precision` says, or what backends say where they have been told apart.

    Once ``torch.backends.….fp32_precision`` makes them differ, torch's own function raises an error.
    """
    try:
        return torch.get_float32_matmul_precision()
    except RuntimeError:
        backends = (("cpu", torch.backends.mkldnn), ("cuda", torch.backends.cuda))
        return ", ".join(f"{name} {backend.matmul.fp32_precision}" for name, backend in backends)
