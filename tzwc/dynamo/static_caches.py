"""Kept static values of one graph of Dynamo's, which may serve many modules.

Dynamo compiles a function, not a module: the blocks of a network, two copies of a model, a teacher and its student run
the same graph with different parameters. Each set of parameters has its own kept values.
"""

from __future__ import annotations

import sys
import threading
import weakref
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from tzwc.partition.partitioner import StaticProgram
from tzwc.partition.static_cache import CacheStats, Check, StaticCache

__all__ = ["KeptValues"]

_SETS = 64
_HELD_BY_CACHE = 2  # references to a tensor that nobody uses any more: the cache's, and that of the question


@dataclass(frozen=True)
class _Set:
    cache: StaticCache
    tensors: tuple[weakref.ref[Tensor], ...]

    def abandoned(self) -> bool:
        """Whether only the cache still holds the tensors."""
        return all(sys.getrefcount(ref()) <= _HELD_BY_CACHE for ref in self.tensors)


class KeptValues:
    """A :class:`tzwc.partition.static_cache.StaticCache` for each set of slots.

    Args:
        program: evaluates the values.
        slots: names of the slots that it reads, in the order in which :meth:`get` receives the tensors.
        check: see :class:`tzwc.partition.static_cache.StaticCache`.
    """

    def __init__(self, program: StaticProgram, slots: Sequence[str], check: Check) -> None:
        self._program = program
        self._slots = tuple(slots)
        self._check = check
        self._sets: dict[tuple[int, ...], _Set] = {}
        self._newest: StaticCache | None = None
        self._past = CacheStats()
        self._lock = threading.Lock()

    def get(self, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """The kept values for these slot tensors, evaluated again where one has changed. Thread-safe."""
        if not self._program.values:
            return ()
        # A cache keeps its tensors alive, so that none of them can hand its identity on to another one.
        key = tuple(map(id, tensors))
        known = self._sets.get(key)
        cache = self._add(key, tensors) if known is None else known.cache
        return cache.get(tensors)

    def peek(self) -> tuple[Tensor, ...]:
        """The values of the newest set of slots, whether or not they still hold."""
        return () if self._newest is None else self._newest.peek()

    def invalidate(self) -> None:
        """Forget every value."""
        with self._lock:
            for known in list(self._sets):
                self._drop(known)

    @property
    def stats(self) -> CacheStats:
        """Counters of all sets together."""
        with self._lock:
            caches = [known.cache.stats for known in self._sets.values()]
        return CacheStats(
            hits=self._past.hits + sum(s.hits for s in caches),
            misses=self._past.misses + sum(s.misses for s in caches),
            evaluations=self._past.evaluations + sum(s.evaluations for s in caches),
            bytes=sum(s.bytes for s in caches),
        )

    def _add(self, key: tuple[int, ...], tensors: Sequence[Tensor]) -> StaticCache:
        with self._lock:
            if key in self._sets:
                return self._sets[key].cache
            for known, entry in list(self._sets.items()):
                if entry.abandoned():
                    self._drop(known)
            while len(self._sets) >= _SETS:
                self._drop(next(iter(self._sets)))
            self._newest = StaticCache(self._program, self._slots, self._check)
            self._sets[key] = _Set(self._newest, tuple(map(weakref.ref, tensors)))
            return self._newest

    def _drop(self, key: tuple[int, ...]) -> None:
        stats = self._sets.pop(key).cache.stats
        self._past.hits += stats.hits
        self._past.misses += stats.misses
        self._past.evaluations += stats.evaluations
