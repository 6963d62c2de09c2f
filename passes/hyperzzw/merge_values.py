"""Merge calls of one operator that share their product and differ in their values only."""

from __future__ import annotations

import operator
from collections.abc import Callable, Collection, Sequence
from itertools import combinations
from typing import Any

from torch import fx

from tzwc.ir.graph import insert_call
from tzwc.passes.shared.ordering import Ancestors, effect_order, restore_order
from tzwc.passes.shared.sizes import same_shape, shape_of
from tzwc.rewrite.pass_manager import PassContext
from tzwc.rewrite.rules import AliasFacts, erase_if_dead

__all__ = ["merge_values"]


def merge_values(graph: fx.Graph, targets: Collection[Callable[..., Any]], context: PassContext) -> None:
    """Merge calls ``target(z, kernel, *values, product=…, …)`` with the same product; then drop unshared products.

    A call whose value depends on the result of another is not merged with it: there would be a cycle.
    """
    said: set[fx.Node] = set()
    while _merge_one(graph, targets, context, said):
        pass
    for node in list(graph.nodes):
        product = node.kwargs.get("product")
        if node.target in targets and isinstance(product, fx.Node) and len(product.users) == 1:
            node.kwargs = {name: value for name, value in node.kwargs.items() if name != "product"}
            erase_if_dead(product)


def _same_call(a: fx.Node, b: fx.Node) -> bool:
    return (
        a.target is b.target
        and a.args[:2] == b.args[:2]
        and a.kwargs == b.kwargs
        and a.kwargs.get("product") is not None
        and same_shape(shape_of(a.args[2]), shape_of(b.args[2]))
    )


def _merge_one(
    graph: fx.Graph, targets: Collection[Callable[..., Any]], context: PassContext, said: set[fx.Node]
) -> bool:
    calls = [node for node in graph.nodes if node.op == "call_function" and node.target in targets]
    if not any(_same_call(a, b) for a, b in combinations(calls, 2)):
        return False
    above = Ancestors(graph)
    facts = AliasFacts(graph)
    for i, first in enumerate(calls):
        group = [first]
        for other in calls[i + 1 :]:
            if not _same_call(first, other):
                continue
            blocking = next((m for m in group if above.is_ancestor(m, other)), None)
            if blocking is not None and other not in said:
                said.add(other)
                reason = f"{other.args[2]} depends on the result of {blocking}, so the two calls cannot be one"
                context.remark("declined", "merge", reason, (other, blocking))
            elif blocking is None and not any(
                facts.is_written(n) for c in (first, other) for n in (c, *c.all_input_nodes)
            ):
                group.append(other)
        if len(group) > 1 and context.admits("merge", group):
            _merge(graph, group, context)
            return True
    return False


def _merge(graph: fx.Graph, group: Sequence[fx.Node], context: PassContext) -> None:
    first, last = group[0], group[-1]
    effects = effect_order(graph)
    values = [value for call in group for value in call.args[2:]]
    made_by = str(first.meta["tzwc_made_by"])
    assert callable(first.target)
    with graph.inserting_before(last):
        merged = insert_call(
            graph, first.target, (*first.args[:2], *values), dict(first.kwargs), like=first, made_by=made_by
        )
        position = 0
        for call in group:
            results = {user.args[1]: user for user in call.users}
            for i in range(len(call.args) - 2):
                if i in results:
                    old = results[i]
                    new = insert_call(graph, operator.getitem, (merged, position), like=old, made_by=made_by)
                    old.replace_all_uses_with(new)
                position += 1
    context.remark(
        "applied",
        "merge",
        f"{len(group)} calls that share {first.args[0]} ⊙ {first.args[1]} became one with {len(values)} values",
        group,
        values=len(values),
    )
    for call in group:
        for user in list(call.users):
            graph.erase_node(user)
        graph.erase_node(call)
    restore_order(graph, effects)
