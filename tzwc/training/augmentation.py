"""Random crops and mirror images, from a generator of their own."""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

from tzwc.errors import InvalidArgumentError

__all__ = ["augment"]


def augment(images: Tensor, generator: torch.Generator, *, crop: int = 0, flip: bool = False) -> Tensor:
    """Every image cropped at a random place after reflected padding, and mirrored with probability one half.

    Args:
        images: ``(b c h w)``, floating point. Sequences ``(b c l)`` are returned as they are.
        generator: decides; on the CPU.
        crop: width of the padding, below the images' sizes.
        flip: whether to mirror along the last axis.

    Raises:
        InvalidArgumentError: ``crop`` is not smaller than the images.
    """
    if images.ndim != 4:
        return images
    batch, _, height, width = images.shape
    if crop:
        if crop >= min(height, width):
            raise InvalidArgumentError(f"crop = {crop}: expected less than the images' {height}×{width}")
        padded = F.pad(images, [crop] * 4, mode="reflect")
        top, left = torch.randint(2 * crop + 1, (2, batch, 1), generator=generator)
        rows = rearrange(top + torch.arange(height), "b h -> b 1 h 1").to(images.device)
        columns = rearrange(left + torch.arange(width), "b w -> b 1 1 w").to(images.device)
        index = torch.arange(batch, device=images.device).view(-1, 1, 1, 1)
        channels = torch.arange(images.shape[1], device=images.device).view(1, -1, 1, 1)
        images = padded[index, channels, rows, columns]
    if flip:
        mirrored = torch.rand(batch, 1, 1, 1, generator=generator) < 0.5
        images = torch.where(mirrored.to(images.device), images.flip(-1), images)
    return images
