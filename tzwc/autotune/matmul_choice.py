"""The faster library for one matrix product: measured once on a machine, and remembered."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tzwc.autotune.facts import establish
from tzwc.autotune.fingerprint import fingerprint
from tzwc.autotune.measure import Limits, measure
from tzwc.autotune.ranks import same_on_all_ranks
from tzwc.autotune.timers import Timer, timer_for
from tzwc.ops.matmul import available, product
from tzwc.util.disk_cache import Store, seconds_of
from tzwc.util.modes import undisturbed

__all__ = ["ATEN", "ONEDNN", "Operand", "choose"]

ATEN, ONEDNN = "aten", "onednn"

_LIMITS = Limits(seconds=0.4, rounds=12, tie=0.05)

_APART = 8.0
"""Times by which neither library is expected to be faster: the lanes of a vector that the other may not use."""


@dataclass(frozen=True)
class Operand:
    """One side of a product, as far as its time depends on it.

    Attributes:
        shape: of two numbers, or three with a batch.
        stride: likewise; 0 along a batch whose matrices are one.
    """

    shape: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def shared(self) -> bool:
        """Whether the matrices of the batch are one."""
        return len(self.shape) == 3 and (self.stride[0] == 0 or self.shape[0] == 1)

    @property
    def length(self) -> int:
        """Elements of memory that it needs."""
        return 1 + sum((n - 1) * step for n, step in zip(self.shape, self.stride, strict=True))

    def tensor(self) -> Tensor:
        """One like it. The values do not matter, and these are quickly made."""
        values = torch.full((self.length,), 0.5, dtype=torch.float32, device="cpu")  # whatever the defaults are
        return values.as_strided(self.shape, self.stride)


def choose(a: Operand, b: Operand, *, store: Store | None = None, timer: Timer | None = None) -> Mapping[str, float]:
    """Seconds of ``a @ b`` by each library that could be measured, the one to take first.

    Empty where there is nothing to compare with: oneDNN cannot be called, the operands and the result need more memory
    than a measurement may, ATen failed, or the machine is busy.

    Args:
        a, b: float32 on CPU, with the same number of dimensions.
        store: where measurements are remembered; by default the user's cache directory.
        timer: measures calls.
    """
    if not available():
        return {}
    store = store or Store()
    key = {"machine": fingerprint("cpu"), "product": [[x.shape, x.stride] for x in (a, b)]}
    finding = establish(
        store,
        "product",
        key,
        read=lambda: _recall(store, key),
        measure=lambda: _measured(a, b, timer or timer_for("cpu")),
        write=lambda seconds: (seconds, seconds) if len(seconds) > 1 else None,
        contradiction=_contradiction,
    )
    seconds = finding.value or {}
    if ATEN not in seconds:
        return {}
    # What is only a little faster is not worth leaving ATen's for.
    best = ONEDNN if seconds.get(ONEDNN, math.inf) * (1 + _LIMITS.tie) < seconds[ATEN] else ATEN
    best = same_on_all_ranks({"product": key["product"]}, best, seconds)
    return dict(sorted(seconds.items(), key=lambda entry: entry[0] != best))


def _contradiction(seconds: Mapping[str, float]) -> str | None:
    """Two libraries for the same arithmetic, of which neither is that much better than the other."""
    slow, fast = max(seconds.values()), min(seconds.values())
    return None if slow < _APART * fast else f"one library was measured to be {slow / fast:.3g}× faster than the other"


def _single(operand: Tensor) -> Tensor:
    """The one matrix of a shared operand."""
    return operand.select(0, 0)


def _measured(a: Operand, b: Operand, timer: Timer) -> dict[str, float]:
    result = math.prod(a.shape[:-1]) * b.shape[-1]
    if torch.float32.itemsize * (a.length + b.length + result) > _LIMITS.memory:
        return {}
    with undisturbed():
        first, second = a.tensor(), b.tensor()
        ours = _single(first) if a.shared else first, _single(second) if b.shared and not a.shared else second
        multiply = torch.mm if first.dim() == 2 else torch.bmm
        calls = {ATEN: lambda: lambda: multiply(first, second), ONEDNN: lambda: lambda: product(*ours)}
        return measure(calls, timer, _LIMITS, ranking=(ATEN,)).seconds


def _recall(store: Store, key: Mapping[str, Any]) -> dict[str, float] | None:
    found = store.get("product", key)
    if found is None:
        return None
    try:
        seconds = seconds_of(found)
        if seconds.keys() != {ATEN, ONEDNN}:
            raise ValueError("names other libraries")
    except ValueError as error:
        store.refuse("product", key, str(error))
        return None
    return seconds
