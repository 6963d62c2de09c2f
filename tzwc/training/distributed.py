"""Several processes that train one model, as ``torchrun`` starts them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Final

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from tzwc.errors import TzwcError

__all__ = ["WorkersError", "mean", "rank", "synchronised", "together", "world"]

_END: Final = timedelta(minutes=10)  # between the ends of two processes: the first writes a checkpoint meanwhile


class WorkersError(TzwcError):
    """Another process of the group failed, was ended, or did not come in time."""


def rank() -> int:
    """Of this process; 0 when it is alone."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def world() -> int:
    """How many processes there are."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def mean(values: list[float]) -> list[float]:
    """Of every value over the processes; unchanged when this one is alone."""
    if world() == 1:
        return values
    tensor = torch.tensor(values, dtype=torch.float64)
    if dist.get_backend() == "nccl":
        tensor = tensor.cuda()
    dist.all_reduce(tensor)
    return [float(value) for value in (tensor / world()).tolist()]


@contextmanager
def synchronised(module: nn.Module) -> Iterator[DistributedDataParallel | None]:
    """``module`` with gradients averaged over the processes inside the block; ``None`` when this one is alone.

    Behind the block nothing refers to the group. A reducer that outlived it would hold the last reference, and drop
    that with Python's global lock held, while the destructor waits for gloo's threads, which may need the lock.
    """
    if world() == 1:
        yield None
        return
    parallel = DistributedDataParallel(module)
    try:
        yield parallel
    finally:
        # Tracebacks may hold the wrapper for longer; what it owns goes now.
        for owned in ("logger", "reducer", "process_group"):
            parallel.__dict__.pop(owned, None)


@contextmanager
def together(end: timedelta = _END) -> Iterator[None]:
    """Join the group that ``torchrun`` announces in the environment; without one, nothing happens.

    On GPUs every process takes the one of its local rank, and NCCL connects them; otherwise gloo does. A process that
    fails leaves at once, which ends its connections, and thereby what the others wait for.

    Args:
        end: how long processes that are done wait for the others (gloo).

    Raises:
        WorkersError: the connection to another process broke, or it did not come to the end of the block.
    """
    if "WORLD_SIZE" not in os.environ or "RANK" not in os.environ:
        yield
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield
        if dist.get_backend() == "gloo":  # NCCL waits by itself
            dist.monitored_barrier(timeout=end)
    except RuntimeError as error:
        if not (isinstance(error, dist.DistError) or "gloo" in str(error).lower() or "monitoredBarrier" in str(error)):
            raise
        raise WorkersError(
            f"process {rank()} of {world()} lost another one, which failed, was ended or did not come; "
            f"see what that one says ({str(error).strip().splitlines()[0]})"
        ) from error
    finally:
        dist.destroy_process_group()
