"""Compare a captured graph with its module on real arguments, leaving no trace of either run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from tzwc.fidelity import python_state, restore
from tzwc.graph_capture import Capture

__all__ = ["disagreement"]

# The captured graph calls the very operators of the module in the same order. Only a reduction that is split among
# threads may round differently from one run to the next: a few dozen roundings, relative to the largest element.
_ROUNDINGS = 64


def disagreement(module: nn.Module, captured: Capture, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str | None:
    """What differs between ``module(*args, **kwargs)`` and the graph; ``None`` when they agree.

    Buffers and random generators are put back after each of the two runs.
    """
    buffers = [*module.buffers(), *(slot.fetch() for slot in captured.slots)]
    names = [*(name for name, _ in module.named_buffers()), *(slot.path for slot in captured.slots)]
    attributes = python_state(module, (args, kwargs))
    inputs = [leaf for leaf in pytree.tree_leaves((tuple(args), dict(kwargs))) if isinstance(leaf, torch.Tensor)]
    with torch.no_grad():
        before = [b.clone() for b in buffers]
        with torch.random.fork_rng():
            expected, spec = pytree.tree_flatten(module(*args, **kwargs))
        # A buffer may have been replaced rather than written to; the graph writes to it.
        after = [b.clone() for b in [*module.buffers(), *(slot.fetch() for slot in captured.slots)]]
        changed = restore(attributes)
        _restore(buffers, before)
        with torch.random.fork_rng():
            actual = captured.module(*(slot.fetch() for slot in captured.slots), *inputs)
        written = [b.clone() for b in buffers]
        _restore(buffers, before)
    if "an argument" in " ".join(changed):
        return "forward changes a list or a dictionary that it is given"
    if spec != captured.out_spec:
        return f"the result has the structure {captured.out_spec}, not {spec}"
    for index, (a, b) in enumerate(zip(actual, expected, strict=True)):
        difference = _difference(a, b)
        if difference:
            return f"output {index}: {difference}"
    for name, a, b in zip(names, written, after, strict=True):
        difference = _difference(a, b)
        if difference:
            return f"buffer {name!r}: {difference}"
    return None


def _restore(buffers: Sequence[torch.Tensor], values: Sequence[torch.Tensor]) -> None:
    for buffer, value in zip(buffers, values, strict=True):
        if not torch.equal(buffer, value):
            buffer.copy_(value)


def _difference(actual: Any, expected: Any) -> str | None:
    if not isinstance(expected, torch.Tensor) or not isinstance(actual, torch.Tensor):
        return None if type(actual) is type(expected) and actual == expected else f"{actual!r}, not {expected!r}"
    if (actual.shape, actual.dtype, actual.device) != (expected.shape, expected.dtype, expected.device):
        return f"{actual.dtype}{list(actual.shape)}, not {expected.dtype}{list(expected.shape)}"
    if torch.equal(actual, expected) or not actual.numel():
        return None
    if not (expected.is_floating_point() or expected.is_complex()):
        return "integers differ"
    finite = expected.isfinite()
    peak = expected[finite].abs().max().item() if finite.any() else 0.0
    bound = _ROUNDINGS * torch.finfo(expected.dtype).eps * peak
    if torch.allclose(actual, expected, rtol=0.0, atol=bound, equal_nan=True):
        return None
    gap = (actual - expected).abs()[finite].max().item() if finite.any() else float("nan")
    return f"differs by {gap:.3g}, more than {bound:.3g}"
