"""The dot-product form of HyperZ·Z·W as a call that graphs may hold; importing this needs no Triton."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["MOST_VALUES", "fused_dot"]

MOST_VALUES = 3
"""Right sides that share one left side in the kernel; each needs an accumulator in registers."""


def fused_dot(z: Tensor, kernel: Tensor | None, *values: Tensor, tf32: bool = False) -> tuple[Tensor, ...]:
    """:func:`tzwc.ops.hyperzzw_dot` as one Triton kernel; for its numbers see
    :mod:`tzwc.lowering.gpu.hyperzzw_dot_kernel`.

    Args:
        z: activations, broadcastable with ``kernel`` to `(B, C, M, N)`; or the product, with ``kernel=None``.
        kernel: hyper-kernel.
        values: one to three `(B, C, N, P)`.
        tf32: multiply float32 on tensor cores.
    """
    from tzwc.lowering.gpu.hyperzzw_dot_kernel import dot  # which needs Triton

    lead = values[0].shape[:2]
    shape = torch.broadcast_shapes(z.shape, z.shape if kernel is None else kernel.shape)  # type: ignore[no-untyped-call]
    shape = (*lead, *shape[2:])
    other = None if kernel is None else kernel.expand(shape)
    result: Tensor = dot(z.expand(shape), other, list(values), tf32)
    return tuple(result.unbind(0))
