"""Changes of Python state by a forward pass, to be made again after every call of its graph.

``self.conv_kernel = kernel`` is noticed by comparing the state of the module before and after it was traced. A tensor
becomes one more result of the graph, and is put where the program put it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, is_dataclass
from typing import Any

import torch
from torch import Tensor

from tzwc._torch import pytree
from tzwc.ir.graph import hint
from tzwc.ir.pytree import flatten_result, unflatten_result
from tzwc.tracing import Counter, as_plain
from tzwc.tracing.python_state import Change

__all__ = ["Counted", "Effect", "Unrepeatable", "effects_of", "replay"]

_CONSTANTS = (int, float, complex, bool, str, bytes, type(None), torch.dtype, torch.device)


class Unrepeatable(Exception):
    """A change of state that cannot be made again without running the program."""


class Counted(Exception):
    """Integers have changed that may be mere counters: trace again with :class:`tzwc.tracing.Counter` in their place.

    Attributes:
        entries: dotted name, container and key of each.
    """

    def __init__(self, entries: list[tuple[str, Any, Any]]) -> None:
        super().__init__()
        self.entries = entries


@dataclass(frozen=True)
class _Result:
    """Stands for one more result of the graph."""

    index: int


@dataclass(frozen=True)
class Effect:
    """One entry of a dictionary or list that every call sets.

    Attributes:
        path: dotted name in the module.
        container, key: what is set is ``container[key]``.
        leaves: results of the graph, and constants.
        spec: how they are put together.
        settled: whether the entry held a value of the same kind before, so that every call is like this one.
        habitual: whether nothing but tensors, which are read as slots, changes in it from call to call.
        increment: for a counter, what is added to the entry instead.
    """

    path: str
    container: Any = field(repr=False)
    key: Any
    leaves: tuple[Any, ...]
    spec: pytree.TreeSpec
    settled: bool
    habitual: bool
    increment: int | None = None

    def value(self, results: Sequence[Any]) -> Any:
        """What is set, given the additional results of the graph."""
        if self.increment is not None:
            return self.container[self.key] + self.increment
        leaves = [results[leaf.index] if isinstance(leaf, _Result) else leaf for leaf in self.leaves]
        return unflatten_result(leaves, self.spec)


def effects_of(changes: Sequence[Change], add_result: Callable[[Any], int]) -> tuple[Effect, ...]:
    """The effects that make these changes again.

    Args:
        changes: of one traced call.
        add_result: makes a tensor or symbolic number a result of the graph, and tells its position.

    Raises:
        Counted: integers have changed.
        Unrepeatable: a change is not to an entry of a dictionary or list, or not of tensors.
    """
    counted = [
        (change.path_of(key), change.container, key)
        for change in changes
        if change.has_entries()
        for key in change.keys()  # noqa: SIM118 - a change is no dictionary
        if key in change.before and type(change.before[key]) is type(change.after.get(key)) is int
    ]
    if counted:
        raise Counted(counted)
    return tuple(effect for change in changes for effect in _effects(change, add_result))


def _effects(change: Change, add_result: Callable[[Any], int]) -> list[Effect]:
    if isinstance(change.after, dict):
        if change.before.keys() - change.after.keys():
            raise Unrepeatable(f"forward deletes entries of {change.path or 'the module'}")
        keys = change.keys()
    elif isinstance(change.after, list) and len(change.after) == len(change.before):
        keys = change.keys()
    else:
        raise Unrepeatable(f"forward changes the length or contents of {change.path!r}")
    return [_effect(change, key, add_result) for key in keys]


def _effect(change: Change, key: Any, add_result: Callable[[Any], int]) -> Effect:
    path = change.path_of(key)
    after = change.after[key]
    if type(after) is Counter:
        return Effect(path, change.container, key, (), pytree.tree_structure(()), True, True, after.increment)
    flat, spec = flatten_result(after)
    leaves = list(map(as_plain, flat))
    described: list[Any] = []
    if any(map(is_dataclass, pytree.tree_leaves(after))):
        raise Unrepeatable(f"forward sets {path!r} to a dataclass")
    for leaf in leaves:
        if isinstance(leaf, torch.nn.Parameter) or not isinstance(leaf, (Tensor, torch.SymInt, *_CONSTANTS)):
            raise Unrepeatable(f"forward sets {path!r} to a {type(leaf).__name__}")
        symbolic = isinstance(leaf, (Tensor, torch.SymInt))
        described.append(_Result(add_result(leaf)) if symbolic else leaf)
    if not any(isinstance(leaf, _Result) for leaf in described):
        raise Unrepeatable(f"forward sets {path!r} to {after!r}")
    before = change.before[key] if isinstance(change.before, list) or key in change.before else None
    held, held_spec = flatten_result(before)
    if held_spec != spec:
        return Effect(path, change.container, key, tuple(described), spec, False, False)
    settled = all(map(_same_kind, held, leaves))
    habitual = settled and not any(isinstance(leaf, torch.SymInt) for leaf in leaves)
    return Effect(path, change.container, key, tuple(described), spec, settled, habitual)


def _same_kind(before: Any, after: Any) -> bool:
    """Whether a call that finds ``before`` does what one that finds ``after`` does, as far as can be told."""
    if isinstance(after, Tensor):
        return isinstance(before, Tensor)
    if isinstance(after, torch.SymInt):
        return type(before) is int and before == hint(after)
    return type(before) is type(after) and bool(before == after)


def replay(effects: Sequence[Effect], results: Sequence[Any]) -> None:
    """Set every entry again."""
    for effect in effects:
        effect.container[effect.key] = effect.value(results)
