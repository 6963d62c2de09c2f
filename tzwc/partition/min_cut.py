"""Which static values to keep in memory: a minimum cut between bytes held and work repeated.

Every static node is either *early*, evaluated when a slot changes, or *late*, evaluated again at every call from
early values and slots. A late node costs the time it takes; an early node that a late or dynamic node reads costs the
time of reading it back from memory, plus ``price`` for each byte held. Choosing the cheapest labelling is a minimum
cut (the project-selection construction): with the early side as the source side,

- ``source → v`` has the capacity of evaluating ``v``, cut when ``v`` is late;
- ``v → stored(v)`` has the capacity of keeping ``v``, cut when ``v`` is early and read late;
- ``stored(v) → reader`` and ``reader → v`` are infinite: a late reader needs the stored value, and an early node
  needs early operands.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

import networkx as nx
import torch
from torch import fx

from tzwc.ir.graph import nbytes, tensor_value
from tzwc.ir.roofline import flops, machine_of, seconds
from tzwc.partition.binding_time import Binding

__all__ = ["CachedValue", "choose_frontier"]


@dataclass(frozen=True)
class CachedValue:
    """A static value that is worth keeping.

    Attributes:
        node: the node whose value is kept.
        bytes: its size.
        seconds: estimated time avoided at each call by keeping it: its own evaluation, and that of the static nodes
            it is computed from, up to other kept values.
        flops: floating-point operations behind ``seconds``.
        slots: the slots that it depends on: a change in one of them makes it stale.
        reason: why this value and not another one.
    """

    node: fx.Node
    bytes: int
    seconds: float
    flops: float
    slots: frozenset[str]
    reason: str


# An elementwise operator next to a product is fused into it by the lowering, and then costs less than reading its
# own result back would.
_FUSED = 0.25

_MAX_PRICE = 1e-3  # seconds per byte: above the price of any value worth keeping


def choose_frontier(
    graph: fx.Graph,
    bindings: Mapping[fx.Node, Binding],
    cache_bytes: int | None = None,
    late: Set[fx.Node] = frozenset(),
) -> list[CachedValue]:
    """The static values to keep, in graph order.

    Args:
        graph: free of dead code.
        bindings: result of :func:`tzwc.partition.binding_time.analyse`.
        cache_bytes: upper bound on the sum of the sizes, in bytes; ``None`` for no bound.
        late: nodes that must be evaluated at every call.
    """
    static = (n for n, b in bindings.items() if b.static and n.op == "call_function")
    costs = {n: _late_cost(n) for n in static if n not in late}
    components = _components(costs)
    chosen = _cut_all(components, costs, price=0.0)
    if cache_bytes is not None and _total(chosen) > cache_bytes:
        low, high = 0.0, _MAX_PRICE
        chosen = []
        while high / max(low, 1e-30) >= 1.01:  # the bytes held fall as their price rises (Lagrangian relaxation)
            price = (low * high) ** 0.5 if low else high / 1e6
            attempt = _cut_all(components, costs, price)
            if _total(attempt) > cache_bytes:
                low = price
            else:
                chosen, high = attempt, price
    kept = set(chosen)
    return [_describe(node, costs, bindings, kept) for node in graph.nodes if node in kept]


def _total(nodes: Sequence[fx.Node]) -> int:
    return sum(nbytes(node) for node in nodes)


def _late_cost(node: fx.Node) -> float:
    """Seconds per call when ``node`` is evaluated late."""
    time = seconds(node)
    return _FUSED * (time - machine_of(node).launch) if _is_pointwise(node) else time


def _is_pointwise(node: fx.Node) -> bool:
    tags = getattr(node.target, "tags", ())
    return torch.Tag.pointwise in tags


def _components(costs: Mapping[fx.Node, float]) -> list[list[fx.Node]]:
    undirected: nx.Graph[fx.Node] = nx.Graph()
    undirected.add_nodes_from(costs)
    undirected.add_edges_from((node, a) for node in costs for a in node.all_input_nodes if a in costs)
    return [sorted(component) for component in nx.connected_components(undirected)]


def _cut_all(components: list[list[fx.Node]], costs: Mapping[fx.Node, float], price: float) -> list[fx.Node]:
    return [node for component in components for node in _cut(component, costs, price)]


def _cut(component: list[fx.Node], costs: Mapping[fx.Node, float], price: float) -> list[fx.Node]:
    network: nx.DiGraph[object] = nx.DiGraph()
    source, sink = "early", "late"
    network.add_node(source)
    network.add_node(sink)
    for node in component:
        stored = ("stored", node)
        network.add_edge(source, node, capacity=_units(costs[node]))
        if tensor_value(node) is None:
            network.add_edge(node, stored)  # a tuple or number cannot be kept: no capacity means infinite
        else:
            keep = nbytes(node) * (price + 1.0 / machine_of(node).bandwidth)
            network.add_edge(node, stored, capacity=_units(keep))
        for user in node.users:
            network.add_edge(stored, user if user in costs else sink)
        for argument in node.all_input_nodes:
            if argument in costs:
                network.add_edge(node, argument)
    _, (early, _) = nx.minimum_cut(network, source, sink)
    return [node for node in component if node in early and any(user not in early for user in node.users)]


def _units(time: float) -> int:
    """Seconds as an integer number of femtoseconds: the maximum-flow algorithm is exact for integers only."""
    return round(time * 1e15)


def _describe(
    node: fx.Node, costs: Mapping[fx.Node, float], bindings: Mapping[fx.Node, Binding], kept: set[fx.Node]
) -> CachedValue:
    cone, pending = set(), [node]
    while pending:
        current = pending.pop()
        if current not in cone and current in costs and (current is node or current not in kept):
            cone.add(current)
            pending.extend(current.all_input_nodes)
    saved = sum(costs[n] for n in cone)
    reading = nbytes(node) / machine_of(node).bandwidth
    reason = (
        f"{len(cone)} operator{'s' if len(cone) != 1 else ''} ({saved * 1e6:.0f} µs) replaced by reading "
        f"{nbytes(node)} bytes ({reading * 1e6:.0f} µs)"
    )
    work = sum(flops(n) for n in cone)
    return CachedValue(node, nbytes(node), saved, work, bindings[node].slots, reason)
