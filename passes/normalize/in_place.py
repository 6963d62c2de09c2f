"""Turn in-place operators on fresh temporaries into functional ones: ``relu_(t)`` becomes ``relu(t)``.

Part of ``normalize``, since a rule must leave everything alone that shares memory with something written to.
"""

from __future__ import annotations

import torch
from torch import fx

from tzwc._torch.operators import OpOverload
from tzwc.ir.graph import alias_groups, insert_call, mutated_arguments, tensor_value
from tzwc.ir.op_schemas import functional_form
from tzwc.rewrite.pass_manager import PassContext
from tzwc.rewrite.rules import erase_if_dead

__all__ = ["remove_in_place"]

# They change the tensor's size or storage, not only its values.
_METADATA = {"resize_", "resize_as_", "resize_as_sparse_", "set_"}


def remove_in_place(graph: fx.Graph, context: PassContext) -> None:
    """Rewrite every in-place call whose target is fresh and of which no other view exists."""
    for node in list(graph.nodes):
        functional = _functional(node)
        if functional is None:
            continue
        reason = _objection(node)
        if reason is not None:
            if node.args[0].op == "call_function":  # the update of a buffer is meant
                context.remark("declined", "in_place", reason, (node,))
            continue
        if not context.admits("in_place", (node,)):
            continue
        target = node.args[0]
        assert isinstance(target, fx.Node)
        arguments = node.args
        if functional is torch.ops.aten.copy.default:  # which has no derivative
            functional, arguments = torch.ops.aten.clone.default, node.args[1:2]
        with graph.inserting_before(node):
            new = insert_call(graph, functional, arguments, dict(node.kwargs), like=node, made_by="normalize/in_place")
        before, after = tensor_value(node), tensor_value(new)
        if before is None or after is None or before.dtype != after.dtype or before.shape != after.shape:
            context.remark("declined", "in_place", f"{functional} would change shape or dtype", (node,))
            graph.erase_node(new)
            continue
        order = {n: i for i, n in enumerate(graph.nodes)}
        for user in list(target.users):
            if order[user] > order[node]:  # it read what was written
                user.replace_input_with(target, new)
        node.replace_all_uses_with(new)
        graph.erase_node(node)
        context.remark("applied", "in_place", f"{node.target} on a fresh temporary -> {functional}", (new,))
        erase_if_dead(target)


def _functional(node: fx.Node) -> OpOverload | None:
    """The operator that returns what the in-place operator ``node`` writes."""
    if node.op != "call_function" or not isinstance(node.target, OpOverload):
        return None
    if node.target.overloadpacket.__name__ in _METADATA or torch.Tag.nondeterministic_seeded in node.target.tags:
        return None
    # Of operators on lists, the first argument is none of the tensors written to.
    return functional_form(node.target) if mutated_arguments(node) == list(node.args[:1]) else None


def _objection(node: fx.Node) -> str | None:
    graph = node.graph
    groups = alias_groups(graph)
    target = node.args[0]
    assert isinstance(target, fx.Node)
    order = {n: i for i, n in enumerate(graph.nodes)}
    for other in graph.nodes:
        if groups[other] != groups[node] or other in (node, target):
            continue
        if other.op in ("placeholder", "get_attr"):
            return f"{other} is written to, which the caller can see"
        # Views taken after the write read the new value anyway; earlier ones would have to follow the write.
        if order[other] < order[node]:
            return f"{other} shares memory with {target}"
    if target.op != "call_function":
        return f"{target} is written to, which the caller can see"
    return None
