"""Kept static values, reused exactly as long as nothing they were computed from has changed.

A tensor counts as unchanged when its identity, version counter, data pointer, shape, stride and dtype are those
recorded, and, for tensors in main memory with ``check="bytes"``, when its bytes are. Each component catches what the
others miss:

====================================================  ==========  =======  ========  =====
change                                                version     pointer  identity  bytes
====================================================  ==========  =======  ========  =====
optimiser step, ``load_state_dict``, ``copy_``        yes                            yes
``load_state_dict(assign=True)``, a new ``Parameter``             yes      yes       yes
``p.data = x``, ``.to(dtype)``, ``vector_to_parameters``          yes                yes
fused optimisers                                      by a hook                      yes
``p.data.mul_()``, views through numpy or DLPack,                                    yes
``dist.all_reduce(p)``
====================================================  ==========  =======  ========  =====

Strong references to the tensors and to copies of their bytes are kept, so that freed memory which is used again for
another tensor cannot pass for the old one.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch.optim.optimizer import Optimizer, register_optimizer_step_post_hook

from tzwc.ir.logs import cache_log
from tzwc.native import TensorWatch, watch_tensors
from tzwc.partition.partitioner import StaticProgram

__all__ = ["CacheStats", "Check", "StaticCache"]

Check = Literal["bytes", "version"]

_ATTEMPTS = 8


@dataclass
class CacheStats:
    """Counters of one cache.

    Attributes:
        hits: calls that reused every value.
        misses: calls that evaluated at least one value.
        evaluations: values evaluated in all.
        bytes: bytes held by values now.
    """

    hits: int = 0
    misses: int = 0
    evaluations: int = 0
    bytes: int = 0


@dataclass(frozen=True)
class _Published:
    """One consistent pair of key and values; never changed after it was made."""

    watch: TensorWatch
    values: tuple[torch.Tensor, ...]


class StaticCache:
    """The kept values of one specialisation.

    Args:
        program: evaluates them.
        slots: names of the slots that the program reads, in the order in which :meth:`get` receives the tensors.
        check: ``"bytes"`` also compares the contents of tensors in main memory (about 1 µs per 4 KB); ``"version"``
            relies on identity, version counter, pointer and layout alone.
    """

    def __init__(self, program: StaticProgram, slots: Sequence[str], check: Check) -> None:
        self._program = program
        self._slots = tuple(slots)
        self._check = check
        self._published: _Published | None = None
        self._lock = threading.Lock()
        self.stats = CacheStats()
        _follow_optimizers()

    def get(self, tensors: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
        """The kept values for these slot tensors, evaluated again where one has changed. Thread-safe."""
        published = self._published
        if published is not None and not published.watch.changed(tensors):
            self.stats.hits += 1
            return published.values
        with self._lock:
            return self._refresh(tensors)

    def peek(self) -> tuple[torch.Tensor, ...]:
        """The values as they were evaluated last, whether or not they still hold; empty when there are none."""
        published = self._published
        return () if published is None else published.values

    def invalidate(self) -> None:
        """Forget every value."""
        with self._lock:
            self._published = None
            self.stats.bytes = 0

    def _refresh(self, tensors: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
        for _ in range(_ATTEMPTS):
            # The order is what makes this safe while other threads write. A write before this line shows in the
            # comparison with what was published; a write after it shows when the new record is compared below.
            watch = watch_tensors(tensors, content=True, compare_bytes=self._check == "bytes")
            published = self._published
            changed = list(range(len(tensors))) if published is None else published.watch.changed(tensors)
            if published is not None and not changed:
                return published.values  # another thread was faster
            values = self._evaluate(tensors, published, changed)
            if not watch.changed(tensors):
                self._published = _Published(watch, values)
                self.stats.bytes = sum(v.untyped_storage().nbytes() for v in values)
                break
        self.stats.misses += 1
        return values

    def _evaluate(
        self, tensors: Sequence[torch.Tensor], previous: _Published | None, changed: list[int]
    ) -> tuple[torch.Tensor, ...]:
        names = {self._slots[i] for i in changed}
        stale = [i for i, v in enumerate(self._program.values) if previous is None or v.slots & names]
        # Values outlive the call, so they must be ordinary tensors even when the call is in inference mode.
        with torch.inference_mode(False), torch.no_grad():
            fresh = self._program.evaluate(dict(zip(self._slots, tensors, strict=True)), stale)
        self.stats.evaluations += len(stale)
        if cache_log.isEnabledFor(logging.INFO):
            self._log(len(stale), previous is None, names)
        renewed = dict(zip(stale, fresh, strict=True))
        return tuple(
            renewed[i] if previous is None or i in renewed else previous.values[i]
            for i in range(len(self._program.values))
        )

    def _log(self, evaluated: int, first: bool, names: set[str]) -> None:
        why = "for the first time" if first else f"because {', '.join(sorted(names)[:4])} changed"
        why += f" and {len(names) - 4} more" if not first and len(names) > 4 else ""
        cache_log.info("evaluated %d of %d kept values %s", evaluated, len(self._program.values), why)


_following = False


def _follow_optimizers() -> None:
    """Bump the version counters that fused optimisers forget to bump."""
    global _following
    if not _following:
        _following = True
        register_optimizer_step_post_hook(_bump)


def _bump(optimizer: Optimizer, args: object, kwargs: object) -> None:
    del args, kwargs
    touched = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    torch.autograd.graph.increment_version([p for p in touched if not p.is_inference()])
