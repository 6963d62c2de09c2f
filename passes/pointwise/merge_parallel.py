"""Fewer and larger products: one 1×1 convolution or ``linear`` layer where several do not depend on each other.

==========  =========================================================  =============================================
``sum``     ``(W₁ x + b₁) + (W₂ y + b₂)``                              ``[W₁ W₂] · cat(x, y) + (b₁ + b₂)``
``shared``  ``W₁ x + b₁``, ``W₂ x + b₂``, … of one ``x``               slices of ``[W₁; W₂; …] x + [b₁; b₂; …]``
``batch``   ``W₁ x₁ + b₁``, ``W₂ x₂ + b₂``, … of equal channels,       slices of one batched product
            one sample each (:mod:`tzwc.passes.pointwise.parallel_batch`)
==========  =========================================================  =============================================

On a GPU each map is a kernel of its own, which takes longer to start than small products take to run, and reads its
input from memory again. There the cost model decides. Elsewhere nothing is merged: on one AVX-512 core, three products
``C → C`` of one tensor of 1024 points took 1.23, 1.15 and 0.99 times as long as one of ``C → 3 C`` at batch 1 (12, 36
and 144 channels), but 0.85, 1.07 and 0.88 times at batch 16. Weights are put together once where they are static; where
they vary from call to call, that work counts.

The order of summation changes, and with it the rounding. Where ``x`` or ``y`` is not finite, neither is the sum, but
one may be an infinity where the other is NaN; and an intermediate result that overflows is no longer made.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence

import torch
from torch import fx

from tzwc.ir.graph import nbytes, replace_node
from tzwc.passes.pointwise.linear_maps import Pointwise, insert_pointwise
from tzwc.passes.pointwise.parallel_batch import batch_maps
from tzwc.passes.pointwise.parallel_maps import Maps, copies
from tzwc.passes.shared.ordering import effect_order, restore_order
from tzwc.passes.shared.sizes import same_shape, shape_of
from tzwc.rewrite.pass_manager import Pass, PassContext
from tzwc.rewrite.patterns import call_arguments
from tzwc.rewrite.rules import erase_if_dead

__all__ = ["MERGE_PARALLEL"]

aten = torch.ops.aten
NAME = "merge_parallel"


def _run(module: fx.GraphModule, context: PassContext) -> None:
    graph = module.graph
    maps = Maps(graph, context)
    for node in list(graph.nodes):
        _add(maps, node)  # erases what comes before it at most
    maps = Maps(graph, context)
    for group in list(_readers(maps)):
        _share(maps, group)
    batch_maps(Maps(graph, context))


# --- a sum of two maps ------------------------------------------------------------------------------------------------


def _add(maps: Maps, node: fx.Node) -> None:
    """Rewrite ``node`` if it is the sum of two maps that nobody else reads, of tensors that no other map reads."""
    if node.target is not aten.add.Tensor or node in maps.static:
        return
    arguments = call_arguments(node)
    first, second = maps.read(arguments["self"]), maps.read(arguments["other"])
    if first is None or second is None or arguments["alpha"] != 1 or not first.like(second):
        return
    calls = [first, second]
    if first.x is second.x or any(len(call.node.users) > 1 for call in calls):
        return  # ``shared`` makes one product of the first kind
    if not same_shape(shape_of(first.node), shape_of(second.node)) or maps.read(node) is not None:
        return
    reason = next((r for call in calls if (r := maps.objection(call)) is not None), None)
    other = next((r for call in calls for r in call.x.users if r is not call.node and maps.read(r)), None)
    if other is not None:
        reason = reason or f"{other} reads the same tensor as a part of the sum, and can be merged with that"
    if reason is not None:
        maps.decline("sum", reason, [node, first.node, second.node])
        return
    if not maps.served("sum", calls):
        return
    pieces = [piece for call in calls for piece in _pieces(call)]
    kernels, moved = copies(pieces, maps.static)
    if maps.worth("sum", calls, 1 - kernels, 2 * nbytes(node) - moved):
        _rewrite_sum(maps, node, calls, pieces)


def _pieces(call: Pointwise) -> list[fx.Node]:
    """What the input of ``call`` is a concatenation of."""
    if call.x.target is aten.cat.default and len(call.x.users) == 1:
        arguments = call_arguments(call.x)
        if arguments["dim"] % len(shape_of(call.x)) == call.axis:
            return list(arguments["tensors"])
    return [call.x]


def _rewrite_sum(maps: Maps, node: fx.Node, calls: Sequence[Pointwise], pieces: Sequence[fx.Node]) -> None:
    insert = maps.inserter("sum", node)
    first, second = calls
    with maps.graph.inserting_before(node):
        x = insert(aten.cat.default, list(pieces), first.axis)
        weight = insert(aten.cat.default, [first.weight, second.weight], 1)
        biases = [call.bias for call in calls if call.bias is not None]
        bias = insert(aten.add.Tensor, *biases) if len(biases) == 2 else next(iter(biases), None)
        new = insert_pointwise(maps.graph, first, x, weight, bias, f"{NAME}/sum")
    channels = f"{first.in_channels} + {second.in_channels} → {first.out_channels} channels"
    maps.context.remark("applied", "sum", f"W₁x + W₂y -> [W₁ W₂] · cat(x, y): {channels}", [node])
    replace_node(node, new)
    erase_if_dead(node)


# --- maps of one tensor -----------------------------------------------------------------------------------------------


def _readers(maps: Maps) -> Iterator[list[Pointwise]]:
    """The maps that read the same tensor in the same way, in graph order."""
    groups: dict[fx.Node, list[list[Pointwise]]] = {}
    for call in maps:
        kinds = groups.setdefault(call.x, [])
        kind = next((kind for kind in kinds if kind[0].like(call)), None)
        if kind is None:
            kinds.append([call])
        else:
            kind.append(call)
    return (kind for kinds in groups.values() for kind in kinds if len(kind) > 1)


def _share(maps: Maps, readers: Sequence[Pointwise]) -> None:
    if not maps.served("shared", readers):
        return
    calls = maps.apart(maps.free("shared", readers))  # a weight may depend on the result of another map
    fewer = len(calls) - 1
    if fewer > 0 and maps.worth("shared", calls, fewer, fewer * nbytes(calls[0].x)):
        _rewrite_shared(maps, calls)


def _rewrite_shared(maps: Maps, calls: Sequence[Pointwise]) -> None:
    first, graph = calls[0], maps.graph
    effects = effect_order(graph)
    insert = maps.inserter("shared", first.node)
    with graph.inserting_before(calls[-1].node):
        weight = insert(aten.cat.default, [call.weight for call in calls], 0)
        bias = None
        if any(call.bias is not None for call in calls):
            zeros = [None if c.bias else insert(aten.new_zeros.default, c.weight, [c.out_channels]) for c in calls]
            biases = [call.bias or zero for call, zero in zip(calls, zeros, strict=True)]
            bias = insert(aten.cat.default, biases, 0)
        merged = insert_pointwise(graph, first, first.x, weight, bias, f"{NAME}/shared")
        parts = insert(aten.split_with_sizes.default, merged, [call.out_channels for call in calls], first.axis)
        for index, call in enumerate(calls):
            replace_node(call.node, maps.inserter("shared", call.node)(operator.getitem, parts, index))
    wide = " + ".join(str(call.out_channels) for call in calls)
    maps.context.remark(
        "applied",
        "shared",
        f"W₁x, W₂x, … -> [W₁; W₂; …] x: {first.in_channels} → {wide} channels of {first.x}",
        [call.node for call in calls],
        maps=len(calls),
    )
    for call in calls:
        erase_if_dead(call.node)
    restore_order(graph, effects)
    maps.changed()


MERGE_PARALLEL = Pass(NAME, "Make one product of 1×1 convolutions or linear layers that run next to each other.", _run)
