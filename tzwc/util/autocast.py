"""The autocast regions that are active, and the same ones, or none, around other code."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch

__all__ = ["Autocast", "active_autocast", "autocast_as"]

Autocast = tuple[tuple[str, torch.dtype], ...]
"""Type of device and element type of every active region; empty where autocast is off."""

_DEVICES = ("cpu", "cuda")


def active_autocast() -> Autocast:
    """What autocast converts to at present, by type of device."""
    return tuple((device, torch.get_autocast_dtype(device)) for device in _DEVICES if torch.is_autocast_enabled(device))


@contextmanager
def autocast_as(regions: Autocast) -> Iterator[None]:
    """Run the block with autocast as it was when ``regions`` was noted; ``()`` switches it off."""
    wanted = dict(regions)
    with ExitStack() as stack:
        for device in _DEVICES:
            if device in wanted or torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, wanted.get(device), enabled=device in wanted))
        yield
