"""Memory of the process that asks, on the host or on its GPU: how much is in use, and the most that was."""

from __future__ import annotations

import ctypes
import gc
import resource
import sys
from contextlib import suppress
from pathlib import Path

import torch

__all__ = ["give_back", "peak", "restart_peak"]


def peak(device: str = "cpu") -> int:
    """The most memory that was resident, in bytes, since the process began or :func:`restart_peak`.

    On a GPU, the most that tensors held.
    """
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    with suppress(OSError):
        # Not ``getrusage``: what it says of a new process begins with the size of the one that started it.
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def give_back() -> None:
    """Return memory that was freed to the system, whatever the allocator was tuned to."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc has it
    if trim is not None:
        trim(0)


def restart_peak(device: str = "cpu") -> None:
    """Let :func:`peak` begin at what is resident now; without effect where the system has no such thing."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        return
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
