"""Several values with one kernel for each sample and channel, convolved together; a part of ``select_convolution``.

``Y_i[b, c] = V_i[b, c] ∗ W[b, c]`` for ``i = 1 … n`` are ``n`` images of ``B · C`` channels, each channel with a filter
of its own. As one batch they are one call, which reads every kernel once. The values are written next to each other
where they are computed, and whoever else reads one reads it there. Every element is the sum of products that it was.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Set
from typing import Any

import torch
from torch import fx

from tzwc.ir.graph import insert_call, nbytes, replace_node
from tzwc.ir.roofline import machine_of
from tzwc.ops import convolution
from tzwc.ops.conv import Problem
from tzwc.passes.convolution.convolution_choice import decide
from tzwc.passes.pointwise.parallel_maps import DEVICES, is_copied, part_objection
from tzwc.passes.shared.ordering import Ancestors, effect_order, restore_order
from tzwc.passes.shared.sizes import shape_of
from tzwc.rewrite.pass_manager import PassContext
from tzwc.rewrite.rules import AliasFacts, erase_if_dead

__all__ = ["stack_values"]

aten = torch.ops.aten
RULE = "stack"


def stack_values(node: fx.Node, problem: Problem, context: PassContext, static: Set[fx.Node]) -> bool:
    """Rewrite ``node``, a ``hyperzzw_convolution``, if that saves something; returns whether it did.

    Args:
        node: the call.
        problem: the convolution of one of its values.
        context: of the pass.
        static: nodes that do not depend on the input.
    """
    values = [value for value in node.args[2:] if isinstance(value, fx.Node)]
    if problem.device not in DEVICES or len(set(values)) < max(2, len(values)):
        return False
    if not all(isinstance(n, int) for n in shape_of(values[0])):
        context.remark("declined", RULE, f"the sizes of {values[0]} are not known at capture", (node,))
        return False
    facts, above = AliasFacts(node.graph), Ancestors(node.graph)
    readers = {value: _others(value, node, facts, above) for value in values}
    saved = _saved(node, problem, readers, static)
    if saved <= 0:
        reason = f"putting {len(values)} values together costs {-saved * 1e6:.1f} µs more than it saves"
        context.remark("declined", RULE, reason, (node,))
        return False
    if not context.admits(RULE, (node,)):
        return False
    groups = problem.batch * problem.in_channels
    whole = problem.with_(batch=len(values), in_channels=groups, out_channels=groups, groups=groups, per_sample=False)
    chosen = decide(whole, node, context, unchanged="", gradients=bool(context.options.get("grad", False)))
    if chosen is None:
        return False
    effects = effect_order(node.graph)
    _rewrite(node, readers, problem, whole, chosen)
    restore_order(node.graph, effects)
    context.remark("applied", RULE, f"{len(values)} values that share a kernel are convolved as one batch", (node,))
    return True


def _others(value: fx.Node, node: fx.Node, facts: AliasFacts, above: Ancestors) -> list[fx.Node]:
    """Who else reads ``value`` and can read it among the others."""
    if part_objection(value, facts) is not None:
        return []
    # A concatenation is written by whoever computes its parts, and ``node`` may need what reads the value.
    return [
        user
        for user in value.users
        if user is not node and user.target is not aten.cat.default and not above.is_ancestor(user, node)
    ]


def _saved(node: fx.Node, problem: Problem, readers: Mapping[fx.Node, list[fx.Node]], static: Set[fx.Node]) -> float:
    """Seconds by the cost model."""
    machine, fewer = machine_of(node), len(readers) - 1
    traffic = fewer * math.prod((problem.batch, problem.in_channels, *problem.kernel)) * problem.dtype.itemsize
    copied = [value for value in readers if is_copied(value, static)]
    for value, moved in readers.items():
        if value in copied:
            traffic -= 2 * nbytes(value)
        elif len(moved) + 1 < len(value.users):
            traffic -= nbytes(value)  # which is written in both places
    return (fewer - bool(copied)) * machine.launch + traffic / machine.bandwidth


def _rewrite(
    node: fx.Node,
    readers: Mapping[fx.Node, list[fx.Node]],
    problem: Problem,
    whole: Problem,
    chosen: Mapping[str, Any],
) -> None:
    z, kernel = node.args[:2]
    product = node.kwargs.get("product")

    def insert(target: Callable[..., object], *arguments: Any, like: fx.Node = node, **keywords: Any) -> fx.Node:
        return insert_call(node.graph, target, arguments, keywords, like=like, made_by=f"select_convolution/{RULE}")

    lead = (problem.batch, problem.in_channels)
    with node.graph.inserting_before(node):
        if not isinstance(product, fx.Node):
            product = insert(aten.mul.Tensor, z, kernel)
        rows = insert(aten.cat.default, list(readers))
        images = insert(aten.reshape.default, rows, [whole.batch, whole.groups, *whole.lengths])
        taps = insert(aten.reshape.default, product, [whole.groups, 1, *whole.kernel])
        result = insert(convolution, images, taps, None, **whole.keywords(), **chosen)
        results = insert(aten.unbind.int, result)
        if any(readers.values()):
            again = insert(aten.split.Tensor, rows, problem.batch)
        for position, (value, moved) in enumerate(readers.items()):
            part = insert(operator.getitem, again, position, like=value) if moved else value
            for user in moved:
                user.replace_input_with(value, part)
    for item in list(node.users):
        with node.graph.inserting_before(item):
            own = insert(operator.getitem, results, item.args[1], like=item)
            own = insert(aten.reshape.default, own, [*lead, *problem.out], like=item)
        replace_node(item, own)
        erase_if_dead(item)
