"""What a captured graph takes for granted about values of parameters, buffers and constants.

A program may branch on a flag, or crop a kernel where a learned mask becomes small. The graph is right as long as what
the program read has the value that it had then. The values are computed again, by the part of the graph that they
follow from, only when a tensor that they follow from has changed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx

from tzwc.ir.graph import alias_groups, mutated_arguments
from tzwc.native import TensorWatch, watch_tensors
from tzwc.tracing import Read
from tzwc.util.autocast import autocast_as

__all__ = ["Assumption", "AssumptionGuard", "Assumptions"]


@dataclass(frozen=True)
class Assumption:
    """One value that the program read.

    Attributes:
        kind: ``value`` of a number or tensor, its ``integer`` part, or the ``shape`` of a result whose shape depends
            on values.
        expected: a number, a tensor, or sizes.
        slots: names of the placeholders that it follows from.
        line: where it was read, as ``file:line: code``.
        module_path: dotted path of the module that read it.
        of: what the program made of the number; it is this that is expected.
    """

    kind: str
    expected: Any
    slots: frozenset[str]
    line: str
    module_path: str
    of: Callable[[float], Any] | None = field(default=None, compare=False, repr=False)

    def __str__(self) -> str:
        shown = list(self.expected.shape) if isinstance(self.expected, Tensor) else self.expected
        return f"{self.kind} {shown!r} read at {self.place}"

    @property
    def place(self) -> str:
        """The line, and the module that it runs for: layers that share a line are different places."""
        return f"{self.line} (in {self.module_path})" if self.module_path else self.line

    def holds_for(self, found: Any) -> bool:
        """Whether ``found``, computed again, is what was read."""
        if self.of is not None:
            try:
                found = self.of(found)
            except (ArithmeticError, ValueError):
                return False
        if self.kind == "shape":
            return bool(tuple(found.shape) == self.expected)
        if self.kind == "integer":
            return bool(int(found) == self.expected)
        if isinstance(self.expected, Tensor):
            same_kind = found.shape == self.expected.shape and found.dtype == self.expected.dtype
            return same_kind and torch.allclose(found, self.expected, rtol=0.0, atol=0.0, equal_nan=True)
        if isinstance(self.expected, float) and math.isnan(self.expected):
            return math.isnan(found)
        return bool(found == self.expected)


class Assumptions:
    """All assumptions of one graph.

    Args:
        graph: as captured, before any pass; a part of it is copied.
        reads: what the program read.

    Attributes:
        entries: one for each value.
        slots: names of the placeholders that any of them follows from, in the order of the graph.
    """

    def __init__(self, graph: fx.Graph, reads: Sequence[Read] = ()) -> None:
        needed = _closure(graph, [read.node for read in reads])
        self._graph = fx.Graph()
        copies: dict[fx.Node, fx.Node] = {}
        for node in graph.nodes:
            if node in needed:
                copies[node] = self._graph.node_copy(node, lambda n: copies[n])
        written = {argument for node in needed for argument in mutated_arguments(node)}
        groups = alias_groups(graph)
        self._copied = {n.name for n in needed if n.op == "placeholder" and groups[n] in {groups[w] for w in written}}
        self.slots = tuple(n.name for n in self._graph.nodes if n.op == "placeholder")
        self._about: dict[fx.Node, list[int]] = {}
        for index, read in enumerate(reads):
            self._about.setdefault(copies[read.node], []).append(index)
        self.entries = tuple(
            Assumption(r.kind, r.expected, _placeholders(r.node, needed), r.line, r.module_path, r.of) for r in reads
        )

    def violated(self, tensors: Mapping[str, Tensor]) -> Assumption | None:
        """The first assumption that does not hold for these slots, by placeholder name."""
        results: dict[fx.Node, Any] = {}
        unconfirmed = dict.fromkeys(range(len(self.entries)))
        with torch.inference_mode(False), torch.no_grad(), autocast_as(()):
            for node in self._graph.nodes:
                if node.op == "placeholder":
                    tensor = tensors[node.name].detach()
                    results[node] = tensor.clone() if node.name in self._copied else tensor
                else:
                    args, kwargs = fx.node.map_arg((node.args, node.kwargs), results.__getitem__)
                    try:
                        results[node] = node.target(*args, **kwargs)
                    except Exception:  # the program would not come here: something that it reads on the way has changed
                        return self.entries[next(iter(unconfirmed))]
                # At once: what follows may only make sense while the assumption holds.
                for index in self._about.get(node, ()):
                    if not self.entries[index].holds_for(results[node]):
                        return self.entries[index]
                    del unconfirmed[index]
        return None


class AssumptionGuard:
    """Tells at every call whether the assumptions still hold.

    Args:
        assumptions: of the graph.
        compare_bytes: also notice writes that bypass version counters.
    """

    def __init__(self, assumptions: Assumptions, compare_bytes: bool) -> None:
        self._assumptions = assumptions
        self._compare_bytes = compare_bytes
        self._watch: TensorWatch | None = None

    def violated(self, tensors: Sequence[Tensor]) -> Assumption | None:
        """The first assumption that does not hold for these tensors, in the order of ``assumptions.slots``."""
        if self._watch is not None and not self._watch.changed(tensors):
            return None
        # A write before this line is seen by the evaluation, a later one by the next comparison.
        watch = watch_tensors(tensors, content=True, compare_bytes=self._compare_bytes)
        found = self._assumptions.violated(dict(zip(self._assumptions.slots, tensors, strict=True)))
        self._watch = watch if found is None else None
        return found


def _closure(graph: fx.Graph, targets: Sequence[fx.Node]) -> set[fx.Node]:
    """Everything that decides the values of ``targets``: what they follow from, and earlier writes to its memory."""
    order = {node: i for i, node in enumerate(graph.nodes)}
    groups = alias_groups(graph)
    writers: dict[int, list[fx.Node]] = {}
    for node in graph.nodes:
        for written in mutated_arguments(node):
            writers.setdefault(groups[written], []).append(node)
    needed: set[fx.Node] = set()
    pending = list(targets)
    while pending:
        node = pending.pop()
        if node in needed:
            continue
        needed.add(node)
        pending.extend(node.all_input_nodes)
        pending.extend(w for w in writers.get(groups[node], ()) if order[w] < max(order[t] for t in targets))
    return needed


def _placeholders(node: fx.Node, allowed: set[fx.Node]) -> frozenset[str]:
    found: set[str] = set()
    seen: set[fx.Node] = set()
    pending = [node]
    while pending:
        current = pending.pop()
        if current in seen or current not in allowed:
            continue
        seen.add(current)
        if current.op == "placeholder":
            found.add(current.name)
        pending.extend(current.all_input_nodes)
    return frozenset(found)
