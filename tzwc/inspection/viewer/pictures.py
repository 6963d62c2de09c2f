"""Kept values that are convolution kernels or maps over positions, small enough to put into the page as pictures."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from tzwc.inspection.records import CachedValueInfo

__all__ = ["pictures"]

CHANNELS = 16
"""Drawn of each value at most; a few show what a slow network writes, and a page should stay small."""

_SIDE, _LENGTH = 64, 1024  # larger maps and sequences are averaged down to this


def pictures(frontier: Sequence[CachedValueInfo], values: Sequence[Tensor]) -> list[dict[str, Any]]:
    """The drawable ones of the kept values, in graph order, as bytes 0 … 255 between a least and a greatest value."""
    return list(_pictures(frontier, values)) if len(frontier) == len(values) else []


def _pictures(frontier: Sequence[CachedValueInfo], values: Sequence[Tensor]) -> Iterator[dict[str, Any]]:
    for info, value in zip(frontier, values, strict=True):
        if value.dim() not in (3, 4) or value.numel() == 0 or value[0, 0].numel() < 2:
            continue
        axes = value.dim() - 2
        channels = value.detach().flatten(0, 1)
        shown = channels[:CHANNELS].to("cpu")
        shown = shown.abs().float() if shown.is_complex() else shown.float()
        shown = _smaller(shown, axes)
        finite = shown[shown.isfinite()]
        low, high = (finite.min().item(), finite.max().item()) if finite.numel() else (0.0, 0.0)
        scaled = ((shown - low) / (high - low or 1.0)).nan_to_num(0.0, 1.0, 0.0).clamp(0.0, 1.0)
        data = bytes((scaled * 255).round().to(torch.uint8).flatten().tolist())
        yield {
            "node": info.node,
            "block": _block(info.location.module_path),
            "module": info.location.module_path,
            "type": info.type,
            "magnitude": value.is_complex(),
            "channels": channels.shape[0],
            "shown": shown.shape[0],
            "height": shown.shape[1] if axes == 2 else 1,
            "width": shown.shape[-1],
            "low": low,
            "high": high,
            "data": base64.b64encode(data).decode("ascii"),
        }


def _smaller(channels: Tensor, axes: int) -> Tensor:
    if axes == 2 and max(channels.shape[1:]) > _SIDE:
        size = (min(channels.shape[1], _SIDE), min(channels.shape[2], _SIDE))
        return functional.adaptive_avg_pool2d(channels, size)
    if axes == 1 and channels.shape[1] > _LENGTH:
        return functional.adaptive_avg_pool1d(channels, _LENGTH)
    return channels


def _block(module_path: str) -> str:
    """The path up to its first number: the block among several alike."""
    parts = module_path.split(".")
    numbered = next((i for i, part in enumerate(parts) if part.isdigit()), 0)
    return ".".join(parts[: numbered + 1])
