"""The memory that this machine has, asked before a declaration or a file takes more of it."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from tzwc._torch.dispatch import current_dispatch_mode
from tzwc.util.formatting import size

__all__ = ["memory_of", "too_large"]

_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def memory_of(device: torch.device) -> int | None:
    """Bytes of memory, used or not, that ``device`` has; ``None`` where nobody knows, or for ``meta``, without end."""
    if device.type == "cuda" and torch.cuda.is_available():
        total: int = torch.cuda.get_device_properties(device).total_memory
        return total
    return _main_memory() if device.type == "cpu" else None


def _working_device() -> torch.device | None:
    """Where new tensors take memory; ``None`` where they take none, under ``FakeTensorMode`` for example."""
    if current_dispatch_mode() is not None:
        return None
    return torch.get_default_device()


def _main_memory() -> int | None:
    try:
        known = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    except (AttributeError, OSError, ValueError):  # of systems that are no POSIX
        return None
    for name in _LIMITS:  # a container may have less
        try:
            known.append(int(Path(name).read_text(encoding="ascii")))
        except (OSError, ValueError):  # "max", or there is no such file
            continue
    return min(known) if min(known) > 0 else None


def too_large(count: int) -> str | None:
    """Why ``count`` bytes cannot be taken on the default device; ``None`` where they can, or where nobody knows."""
    device = _working_device()
    memory = None if device is None else memory_of(device)
    if memory is None or count <= memory:
        return None
    return f"takes {size(count)}, and {device} has {size(memory)}"
