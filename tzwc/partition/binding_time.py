"""Binding-time analysis: which nodes follow from parameters, buffers and constants alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import fx

from tzwc.ir.graph import alias_groups, is_mutating, is_pure, is_random, mutated_arguments, target_name

__all__ = ["Binding", "analyse"]


@dataclass(frozen=True)
class Binding:
    """When a node can be evaluated.

    Attributes:
        static: ``True`` when the value is the same for every call until a slot changes.
        reason: for dynamic nodes, what makes this very node dynamic, or which argument it inherits that from.
        slots: for static nodes, the placeholders that the value depends on.
    """

    static: bool
    reason: str
    slots: frozenset[str] = frozenset()


def analyse(graph: fx.Graph, static_slots: Mapping[str, str] | frozenset[str]) -> dict[fx.Node, Binding]:
    """Classify every node of ``graph``.

    Args:
        static_slots: names of the placeholders that count as constant between changes. All other placeholders are
            dynamic: inputs, and in training the parameters that receive gradients.

    Returns:
        One :class:`Binding` for each node except the output.
    """
    groups = alias_groups(graph)
    written = {groups[argument]: node for node in graph.nodes for argument in mutated_arguments(node)}
    bindings: dict[fx.Node, Binding] = {}
    for node in graph.nodes:
        if node.op != "output":
            bindings[node] = _classify(node, bindings, static_slots, written.get(groups[node]))
    return bindings


def _classify(
    node: fx.Node,
    bindings: Mapping[fx.Node, Binding],
    static_slots: Mapping[str, str] | frozenset[str],
    writer: fx.Node | None,
) -> Binding:
    if is_random(node):
        return Binding(False, "draws random numbers")
    if writer is not None:
        return Binding(False, f"{target_name(writer.target)} writes to its memory")
    if node.op == "placeholder":
        if node.name in static_slots:
            return Binding(True, "parameter, buffer or constant", frozenset({node.name}))
        return Binding(False, "input, or a parameter that receives gradients")
    if node.op != "call_function":
        return Binding(False, f"{node.op} is not a call")
    if is_mutating(node):
        return Binding(False, "writes to memory")
    if not is_pure(node):
        return Binding(False, f"{target_name(node.target)} may have side effects")
    for argument in node.all_input_nodes:
        if not bindings[argument].static:
            return Binding(False, f"depends on {argument.name}")
    slots = frozenset[str]().union(*(bindings[a].slots for a in node.all_input_nodes))
    return Binding(True, "follows from static values", slots)
