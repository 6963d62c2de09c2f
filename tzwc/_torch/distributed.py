"""Process groups."""

from __future__ import annotations

from typing import Any

import torch.distributed as _distributed
from torch.nn.parallel import DistributedDataParallel as _DistributedDataParallel


def default_store() -> Any:
    """The key-value store through which the processes of the default group have found each other.

    Raises:
        AttributeError: this PyTorch is built without ``torch.distributed``.
        ValueError: there is no default group.
    """
    return _distributed.distributed_c10d._get_default_store()


def active_ddp_module() -> Any:
    """The ``DistributedDataParallel`` whose forward this thread is in, or ``None``."""
    return _DistributedDataParallel._active_ddp_module
