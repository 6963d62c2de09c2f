"""The contenders of ``tzwc bench model``: all that a user could pick, with and without an allocator that is tuned."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import torch
from torch import nn

from tzwc import api
from tzwc._torch.inductor import list_mode_options
from tzwc.bench.capture.outcome import outcome_of
from tzwc.errors import InvalidArgumentError

__all__ = ["ALLOCATOR", "CONTENDERS", "TUNED", "available", "build", "choose", "environment", "note_of", "unfit"]

CONTENDERS: Final[Mapping[str, Mapping[str, Any]]] = {
    "eager": {},
    "compile": {},
    "contiguous": {"layout_optimization": False},
    "reduce_overhead": list_mode_options("reduce-overhead"),
    "max_autotune": list_mode_options("max-autotune"),
    "freezing": {"freezing": True},
    "freezing_max_autotune": {**list_mode_options("max-autotune"), "freezing": True},
    "tzwc": {},
}
"""Contenders by name, with Inductor's options of those that are ``torch.compile``. Each exists a second time, as
``name+allocator``, with :data:`ALLOCATOR` in its environment."""

TUNED: Final = "+allocator"

_RAISED = str(4 << 30)
ALLOCATOR: Final[Mapping[str, str]] = {
    "MALLOC_MMAP_THRESHOLD_": _RAISED,
    "MALLOC_TRIM_THRESHOLD_": _RAISED,
    "MALLOC_TOP_PAD_": str(64 << 20),
    "THP_MEM_ALLOC_ENABLE": "1",
}
"""Makes glibc keep large buffers that were freed, instead of giving them back and faulting in every page again, and
PyTorch ask for huge pages, of which there are fewer. (tzwc does both for its own graphs: tzwc.lowering.buffer_pool.)"""

_ONLY_INDUCTOR = ("contiguous", "reduce_overhead", "max_autotune", "freezing", "freezing_max_autotune")
_ONLY_INFERENCE = ("freezing", "freezing_max_autotune")
_ON_DEMAND = ("reduce_overhead", "freezing_max_autotune")  # the first is for GPUs alone


def available(backend: str) -> tuple[str, ...]:
    """The contenders that are measured with ``backend`` unless others are asked for, without tuned allocators."""
    return tuple(b for b in CONTENDERS if b not in _ON_DEMAND and (backend == "inductor" or b not in _ONLY_INDUCTOR))


def choose(names: Sequence[str] | None, backend: str, device: str = "cpu") -> tuple[str, ...]:
    """The contenders called ``names``, or by default all that there are with ``backend``, on a CPU both ways.

    Raises:
        InvalidArgumentError: an unknown name, or a contender that does not exist with this backend.
    """
    if names is None:
        return tuple(
            base + tuned for base in available(backend) for tuned in (("", TUNED) if device == "cpu" else ("",))
        )
    for name in names:
        base = name.removesuffix(TUNED)
        if base not in CONTENDERS:
            raise InvalidArgumentError(
                f"contender {name!r} is unknown: choose from {', '.join(CONTENDERS)}, each also as NAME{TUNED}"
            )
        if base in _ONLY_INDUCTOR and backend != "inductor":
            raise InvalidArgumentError(f"contender {name!r} is a setting of Inductor: there is none with {backend!r}")
        if name.endswith(TUNED) and device != "cpu":
            raise InvalidArgumentError(f"contender {name!r} tunes the allocator of the CPU: leave it out on {device!r}")
    if not names:
        raise InvalidArgumentError(f"no contenders: choose from {', '.join(CONTENDERS)}")
    return tuple(dict.fromkeys(names))


def unfit(name: str, mode: str) -> str:
    """Why the contender called ``name`` has no part in ``mode``; empty when it has."""
    if mode == "training" and name.removesuffix(TUNED) in _ONLY_INFERENCE:
        return "frozen weights are for inference alone"
    return ""


def environment(name: str, threads: int, caches: Path) -> dict[str, str]:
    """Environment variables of the process of a contender.

    Args:
        name: of the contender.
        threads: that it may use.
        caches: an empty folder, where everything that compilers keep between processes goes.
    """
    cold = {
        variable: str(caches / variable.lower())
        for variable in ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "TORCH_EXTENSIONS_DIR", "TZWC_CACHE_DIR")
    }
    return {**cold, "OMP_NUM_THREADS": str(threads), **(ALLOCATOR if name.endswith(TUNED) else {})}


def build(name: str, model: nn.Module, backend: str) -> Callable[..., Any]:
    """What the contender called ``name`` makes of ``model``, whose parameters stay the very tensors."""
    base = name.removesuffix(TUNED)
    if base == "eager":
        return model
    if base == "tzwc":
        return api.compile(model, backend=backend)
    compiled: Callable[..., Any] = torch.compile(model, backend=backend, options=dict(CONTENDERS[base]) or None)
    return compiled


def note_of(module: Callable[..., Any]) -> str:
    """Of what tzwc has made: how much of the model it was able to capture; empty for the others."""
    outcome = outcome_of(module) if isinstance(module, nn.Module) else None
    return "" if outcome is None else outcome.level
