"""Tensors of a traced call that somebody still holds when it is over.

A program may keep a tensor where nobody thinks of looking: in a global list, or in an object that a closure refers to.
The graph would not do that, and a fake tensor would stay there. So what is still alive after a call, beyond what the
graph itself holds, is a side effect that was missed.
"""

from __future__ import annotations

import functools
import gc
import sys
from collections import Counter, deque
from collections.abc import Collection, Iterator, Mapping
from types import FrameType
from typing import Any

from torch import Tensor, fx

from tzwc._torch.fake_tensors import FakeTensor
from tzwc.tracing.graph_builder import is_metadata
from tzwc.tracing.tensor_table import TensorTable

__all__ = ["escaped_fake", "escaped_value", "forget_escaped", "source_of"]

# References to a fake while it is looked at: the list of fakes, the loop, and the call that counts.
_COUNTED = 3


def escaped_value(table: TensorTable, held: Collection[int]) -> fx.Node | None:
    """The node of a real tensor that the call made and that outlived it; ``None`` when there is none.

    Args:
        table: what tracing knows of tensors.
        held: identities of tensors that the program held before, and of constants of the graph.
    """

    def search() -> list[tuple[Tensor, fx.Node]]:
        return [(t, node) for t, node in table.alive() if not isinstance(t, FakeTensor) and id(t) not in held]

    if not search():
        return None
    gc.collect()  # frames in reference cycles die late
    suspects = search()
    own = {id(suspects), *map(id, suspects)}
    for tensor, node in suspects:
        # PyTorch may keep a tensor for itself; a program keeps it in an object.
        if _objects_holding(tensor, own):
            return node
    return None


def forget_escaped(table: TensorTable, node: fx.Node) -> None:
    """Take the real tensors of ``node`` out of what holds them: they have no history, and the program looks there."""
    for tensor, known in table.alive():
        if known is node and not isinstance(tensor, FakeTensor):
            _forget(tensor, 3)


def _objects_holding(tensor: object, own: Collection[int]) -> list[Any]:
    return [h for h in gc.get_referrers(tensor) if id(h) not in own and not isinstance(h, FrameType)]


def _forget(value: object, depth: int) -> None:
    for holder in gc.get_referrers(value):
        if isinstance(holder, FrameType) or is_metadata(holder):
            continue
        if isinstance(holder, functools._lru_cache_wrapper):
            holder.cache_clear()
        elif isinstance(holder, dict):
            for key in [k for k, entry in holder.items() if entry is value]:
                del holder[key]
        elif isinstance(holder, (list, deque, set)):
            rest = [entry for entry in holder if entry is not value]
            if len(rest) < len(holder) and depth < 4:
                holder.clear()
                holder.update(rest) if isinstance(holder, set) else holder.extend(rest)
        elif isinstance(getattr(holder, "__dict__", None), dict):
            for name in [n for n, entry in vars(holder).items() if entry is value]:
                # What was there before is not known; None is how a program says that nothing is.
                setattr(holder, name, getattr(type(holder), name, None))
        elif depth and type(holder).__module__ in ("builtins", "functools"):
            _forget(holder, depth - 1)  # in a tuple, or an entry of a bounded cache


def escaped_fake(table: TensorTable, graph: fx.Graph) -> fx.Node | None:
    """The node of a fake tensor that is held outside of ``graph``; ``None`` when there is none.

    It is taken out of the list, deque, dictionary or set that holds it, as far as it is one.
    """
    if not _holders(table, graph):
        return None
    gc.collect()  # frames in reference cycles die late
    found = [_take_out(holder, suspects) for holder, suspects in _holders(table, graph)]
    return next((node for node in found if node is not None), None)


def source_of(node: fx.Node, paths: Mapping[str, str]) -> str:
    """The dotted name of a parameter or buffer that ``node`` is computed from; empty when there is none.

    Args:
        node: of the graph.
        paths: dotted names, by placeholder.
    """
    pending, seen = [node], {node}
    while pending:
        current = pending.pop()
        if current.op == "placeholder" and current.name in paths:
            return paths[current.name]
        fresh = set(current.all_input_nodes) - seen
        seen |= fresh
        pending.extend(fresh)
    return ""


_Suspects = list[tuple[Tensor, fx.Node]]


def _holders(table: TensorTable, graph: fx.Graph) -> list[tuple[Any, _Suspects]]:
    """Objects that refer to fakes and are not the graph's, each with all fakes that it may refer to."""
    suspects = _suspects(table, graph)
    if not suspects:
        return []
    fakes = [tensor for tensor, _ in suspects]
    own = {id(fakes), id(suspects), *map(id, suspects), *map(id, table.containers())}
    own |= {id(node.meta.get("val")) for node in graph.nodes}
    return [
        (holder, suspects)
        for holder in gc.get_referrers(*fakes)
        if id(holder) not in own and not is_metadata(holder) and not isinstance(holder, FrameType)
    ]


def _suspects(table: TensorTable, graph: fx.Graph) -> _Suspects:
    """Fakes with more references than the graph's: a user's, or that of a view in it, which cannot be seen."""
    recorded = Counter(id(fake) for node in graph.nodes for fake in _tensors(node.meta.get("val")))
    fakes = [(tensor, node) for tensor, node in table.alive() if isinstance(tensor, FakeTensor)]
    # One reference more than counted: the pair in the list.
    return [(t, node) for t, node in fakes if sys.getrefcount(t) > recorded[id(t)] + _COUNTED]


def _take_out(holder: Any, suspects: _Suspects) -> fx.Node | None:
    nodes = {id(tensor): node for tensor, node in suspects}
    held = [nodes[id(entry)] for entry in gc.get_referents(holder) if id(entry) in nodes]
    if isinstance(holder, (list, deque)):
        rest = [entry for entry in holder if id(entry) not in nodes]
        holder.clear()
        holder.extend(rest)
    elif isinstance(holder, dict):
        for key in [k for k, entry in holder.items() if id(entry) in nodes]:
            del holder[key]
    elif isinstance(holder, set):
        holder.difference_update([entry for entry in holder if id(entry) in nodes])
    return held[0] if held else None


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for entry in value:
            yield from _tensors(entry)
