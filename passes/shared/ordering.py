"""The order that a graph's calls must keep: after what they read, and effects one after the other."""

from __future__ import annotations

import heapq

from torch import fx

from tzwc.errors import PassError
from tzwc.ir.graph import is_pure
from tzwc.rewrite.rules import AliasFacts

__all__ = ["Ancestors", "effect_order", "restore_order"]


def _predecessors(graph: fx.Graph) -> dict[fx.Node, list[fx.Node]]:
    """What each node must come after: its arguments and, if it has an effect or sees one, the one before such."""
    facts = AliasFacts(graph)
    before: dict[fx.Node, list[fx.Node]] = {}
    previous: fx.Node | None = None
    for node in graph.nodes:
        before[node] = list(node.all_input_nodes)
        if node.op != "call_function":
            continue
        sees_effect = any(facts.is_written(n) for n in (node, *node.all_input_nodes))
        if sees_effect or not is_pure(node):
            if previous is not None:
                before[node].append(previous)
            previous = node
    return before


class Ancestors:
    """Which nodes must run before which, through data and through effects."""

    def __init__(self, graph: fx.Graph) -> None:
        self._bit = {node: 1 << i for i, node in enumerate(graph.nodes)}
        self._above: dict[fx.Node, int] = {}
        for node, before in _predecessors(graph).items():
            mask = 0
            for other in before:
                mask |= self._bit[other] | self._above[other]
            self._above[node] = mask

    def is_ancestor(self, first: fx.Node, second: fx.Node) -> bool:
        """Whether ``second`` needs ``first``."""
        return bool(self._above[second] & self._bit[first])


def restore_order(graph: fx.Graph, before: dict[fx.Node, list[fx.Node]] | None = None) -> None:
    """Move nodes so that each comes after what it needs, and keep the present order otherwise.

    Args:
        before: further constraints, as recorded by :func:`effect_order` before edges were changed.

    Raises:
        PassError: the constraints have a cycle.
    """
    nodes = list(graph.nodes)
    place = {node: i for i, node in enumerate(nodes)}
    waiting: dict[fx.Node, int] = {}
    after: dict[fx.Node, list[fx.Node]] = {node: [] for node in nodes}
    for node in nodes:
        needs = {*node.all_input_nodes, *(n for n in (before or {}).get(node, ()) if n in place)}
        waiting[node] = len(needs)
        for other in needs:
            after[other].append(node)
    output = nodes[-1]
    ready = [place[node] for node in nodes if not waiting[node] and node is not output]
    heapq.heapify(ready)
    done = 0
    while ready:
        node = nodes[heapq.heappop(ready)]
        output.prepend(node)
        done += 1
        for user in after[node]:
            waiting[user] -= 1
            if not waiting[user] and user is not output:
                heapq.heappush(ready, place[user])
    if done != len(nodes) - 1:
        raise PassError("the rewritten graph has a cycle")


def effect_order(graph: fx.Graph) -> dict[fx.Node, list[fx.Node]]:
    """For every node that has or sees an effect, the one before it."""
    chain = _predecessors(graph)
    return {node: [n for n in before if n not in node.all_input_nodes] for node, before in chain.items()}
