"""Several processes that train one model, as ``torchrun`` starts them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist

__all__ = ["mean", "rank", "together", "world"]


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
def together() -> Iterator[None]:
    """Join the group that ``torchrun`` announces in the environment; without one, nothing happens.

    On GPUs every process takes the one of its local rank, and NCCL connects them; otherwise gloo does.
    """
    if "WORLD_SIZE" not in os.environ or "RANK" not in os.environ:
        yield
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield
    finally:
        dist.destroy_process_group()
