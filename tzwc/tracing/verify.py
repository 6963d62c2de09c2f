"""Compare a captured graph with its module on real arguments, leaving no trace of either run."""

from __future__ import annotations

import builtins
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from tzwc._torch import pytree
from tzwc.ir.pytree import flatten_result
from tzwc.tracing.capture import Capture
from tzwc.tracing.patches import Patches, patching
from tzwc.tracing.python_state import PythonState
from tzwc.tracing.repeated_calls import repeated_calls
from tzwc.tracing.side_effects import Effect
from tzwc.util.autocast import autocast_as

__all__ = ["difference", "disagreement", "restore"]

# The captured graph calls the very operators of the module in the same order. Only a reduction that is split among
# threads may round differently from one run to the next: a few dozen roundings, relative to the largest element.
_ROUNDINGS = 64


def disagreement(module: nn.Module, captured: Capture, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str | None:
    """What differs between ``module(*args, **kwargs)`` and the graph; ``None`` when they agree.

    Buffers, attributes and random generators are put back after each of the two runs. The module's costs what a call of
    it costs in eager mode; the graph's is spared the long convolutions whose operands are the same.
    """
    named = dict(_tensors(module, captured))
    tensors = list(named.values())
    state = PythonState(module, (args, kwargs))
    inputs = [leaf for leaf in pytree.tree_leaves((tuple(args), dict(kwargs))) if isinstance(leaf, torch.Tensor)]
    repeated = repeated_calls(captured.module.graph)
    with torch.no_grad():
        before = [b.detach().clone() for b in tensors]
        try:
            with torch.random.fork_rng(), _printing() as printed, repeated:
                expected, spec = flatten_result(module(*args, **kwargs))
            changed = {(id(c.container), key) for c in state.changes() for key in c.keys()}  # noqa: SIM118
            set_by_module = [_value(effect) for effect in captured.effects]
            # A buffer may have been replaced rather than written to; the graph writes to it.
            after = [b.detach().clone() for b in dict(_tensors(module, captured)).values()]
        finally:
            state.restore()
            restore(tensors, before)
        try:
            with torch.random.fork_rng(), autocast_as(()), repeated:  # what it converts is part of the graph
                actual = captured.module(*(slot.fetch() for slot in captured.slots), *inputs)
            written = [b.detach().clone() for b in tensors]
        finally:
            restore(tensors, before)
    if spec != captured.out_spec:
        return f"the result has the structure {captured.out_spec}, not {spec}"
    if changed != {(id(effect.container), effect.key) for effect in captured.effects}:
        return "it sets other attributes"
    if printed != list(captured.printed):
        return "it prints something else"
    count = len(expected)
    for index, (a, b) in enumerate(zip(actual[:count], expected, strict=True)):
        gap = difference(a, b)
        if gap:
            return f"output {index}: {gap}"
    for effect, b in zip(captured.effects, set_by_module, strict=True):
        for found, wanted in zip(pytree.tree_leaves(effect.value(actual[count:])), pytree.tree_leaves(b), strict=True):
            gap = difference(found, wanted)
            if gap:
                return f"{effect.path!r}: {gap}"
    replaced = {effect.path for effect in captured.effects}
    for name, a, b in zip(named, written, after, strict=True):
        gap = None if name in replaced else difference(a, b)
        if gap:
            return f"{name!r}: {gap}"
    return None


def _value(effect: Effect) -> Any:
    """What the entry holds, out of reach of later writes."""
    value = effect.container[effect.key]
    return pytree.tree_map_only(torch.Tensor, lambda tensor: tensor.detach().clone(), value)


def _tensors(module: nn.Module, captured: Capture) -> Iterator[tuple[str, torch.Tensor]]:
    yield from module.named_parameters()
    yield from module.named_buffers()
    yield from ((slot.path, slot.fetch()) for slot in captured.slots)


@contextmanager
def _printing() -> Iterator[list[tuple[tuple[Any, ...], dict[str, Any]]]]:
    """Collect what this thread prints instead of printing it."""
    printed: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    def collect(_original: Any, *args: Any, **kwargs: Any) -> None:
        printed.append((tuple(map(str, args)), kwargs))

    with patching, Patches().function(builtins, "print", collect):
        yield printed


def restore(tensors: Sequence[torch.Tensor], values: Sequence[torch.Tensor]) -> None:
    """Give ``tensors`` their ``values`` back, without a write where they have them."""
    for tensor, value in zip(tensors, values, strict=True):
        if not torch.equal(tensor, value):
            tensor.detach().copy_(value)


def difference(actual: Any, expected: Any) -> str | None:
    """How a result differs by more than another order of summation explains; ``None`` when it does not."""
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
