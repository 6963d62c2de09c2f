"""Compare a traced graph with Dynamo's own on the arguments of the call, leaving no trace of either run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx

from tzwc._torch.autocast import DisableAutocast
from tzwc._torch.fake_tensors import FakeTensor
from tzwc.dynamo.retrace import Retraced
from tzwc.tracing.verify import difference, restore

__all__ = ["disagreement"]


def disagreement(module: fx.GraphModule, retraced: Retraced, examples: Sequence[Any]) -> str | None:
    """What differs between Dynamo's graph ``module`` and ``retraced``; ``None`` when they agree."""
    if any(isinstance(e, FakeTensor) for e in examples):
        return None  # there are no values to compare
    slots = [examples[s.position] for s in retraced.slots if s.position is not None]
    kept = {id(slot) for slot in slots}
    with torch.inference_mode(False), torch.no_grad():
        before = [slot.detach().clone() for slot in slots]
        arguments = [_value(e, kept) for e in examples]
        try:
            expected = _run(module, arguments)
            after = [slot.detach().clone() for slot in slots]
        finally:
            restore(slots, before)
        arguments = [_value(e, kept) for e in examples]
        try:
            given = [s.tensor(examples) for s in retraced.slots]
            inputs = [arguments[position] for position in retraced.positions]
            with DisableAutocast():
                actual = _run(retraced.module, [*given, *inputs])
            written = [slot.detach().clone() for slot in slots]
        finally:
            restore(slots, before)
    for index, (a, b) in enumerate(zip(actual, expected, strict=True)):
        gap = difference(a, b)
        if gap:
            return f"result {index}: {gap}"
    names = [s.path for s in retraced.slots if s.position is not None]
    for name, a, b in zip(names, written, after, strict=True):
        gap = difference(a, b)
        if gap:
            return f"{name!r}: {gap}"
    return None


def _run(module: fx.GraphModule, arguments: Sequence[Any]) -> list[Any]:
    with torch.random.fork_rng(), torch.set_grad_enabled(torch.is_grad_enabled()):
        return list(module(*arguments))


def _value(example: Any, slots: set[int]) -> Any:
    if isinstance(example, Tensor):
        return example if id(example) in slots else example.detach().clone()
    return int(example.node.hint) if isinstance(example, torch.SymInt) else example
