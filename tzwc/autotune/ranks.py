"""One choice for all ranks of a process group."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from typing import Any

import torch.distributed as dist

from tzwc._torch.distributed import default_store

__all__ = ["same_on_all_ranks"]


def same_on_all_ranks(key: Mapping[str, Any], mine: str, legal: Collection[str]) -> str:
    """What the rank that chose first has chosen for ``key``; ``mine`` where there is no group, or it cannot be asked.

    It is not a collective: ranks may ask at different times, or never. The first one leaves its choice in the key-value
    store through which the ranks have found each other. One that is not ``legal`` here is not taken.
    """
    if not dist.is_available() or not dist.is_initialized() or dist.get_world_size() < 2:
        return mine
    name = f"tzwc/{hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:32]}"
    try:
        # An empty expected value means: only where there is none yet.
        store = default_store()
        first = bytes(store.compare_set(name, "", mine)).decode()
    except (RuntimeError, ValueError, AttributeError, NotImplementedError, UnicodeDecodeError):
        return mine
    return first if first in legal else mine
