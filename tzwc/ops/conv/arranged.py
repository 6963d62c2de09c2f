"""A copy of a tensor in a memory format, differentiable."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

__all__ = ["Arranged"]


class Arranged(torch.autograd.Function):
    """A copy in a memory format, with contiguous gradients.

    Left alone, the gradient would come channels-last and, the rows of a per-sample convolution being one image, with
    strides that are ambiguous. ATen's batch normalization on CPU then reads them wrongly (2.13).
    """

    @staticmethod
    def forward(image: Tensor, memory_format: torch.memory_format) -> Tensor:
        return image.contiguous(memory_format=memory_format)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, torch.memory_format], _: Tensor) -> None:
        ctx.memory_format = inputs[1]

    @staticmethod
    def backward(_: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient.contiguous(), None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, _: None) -> Tensor:
        return tangent.contiguous(memory_format=ctx.memory_format)

    @staticmethod
    def vmap(_: Any, in_dims: tuple[int | None, None], image: Tensor, __: torch.memory_format) -> tuple[Tensor, Any]:
        return image, in_dims[0]  # a layout is for speed alone, and PyTorch cannot ask a mapped tensor for another one
