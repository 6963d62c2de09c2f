"""Fewer operations in 1×1 convolutions and ``linear`` layers, by doing to the weight what was done to the channels.

==============  ==============================================================  =====================================
``compose``     ``W₂ (W₁ x + b₁) + b₂``                                         ``(W₂ W₁) x + (W₂ b₁ + b₂)``
``repeat``      ``W · cat(…, repeat(y), …)``, channels that occur several       ``(…, Σ W_i, …) · cat(…, y, …)``
                times, as ``a b c a b c`` or as ``a a b b c c``
==============  ==============================================================  =====================================

Both are made only where fewer multiplications are left for every batch size. What is done to weights is static in
evaluation, and then done once.

The order of summation changes, and with it the rounding. Where ``x`` is not finite, neither result is, but one may be
an infinity where the other is NaN; and an intermediate result that overflows is no longer made.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import fx

from tzwc.ir.graph import insert_call, replace_node
from tzwc.passes.pointwise.linear_maps import (
    Pointwise,
    feeds_periodic,
    insert_pointwise,
    least,
    read_pointwise,
    weight_matrix,
    weight_of_matrix,
    written_to,
)
from tzwc.passes.pointwise.repeated_channels import Repeat, read_repeat
from tzwc.passes.shared.sizes import is_static, shape_of, static_nodes
from tzwc.rewrite.pass_manager import Pass, PassContext
from tzwc.rewrite.patterns import call_arguments
from tzwc.rewrite.rules import AliasFacts, erase_if_dead

__all__ = ["COMPOSE_LINEAR"]

aten = torch.ops.aten
NAME = "compose_linear"


def _run(module: fx.GraphModule, context: PassContext) -> None:
    graph = module.graph
    facts = AliasFacts(graph)
    static = static_nodes(graph, context.static_slots)
    for node in list(graph.nodes):
        outer = None if node._erased else read_pointwise(node)
        while isinstance(outer, Pointwise):  # a chain of several, or a sum over repeats of a composed one
            new = _compose(outer, facts, static, context) or _fold(outer, facts, static, context)
            outer = None if new is None else read_pointwise(new)


# --- one map after the other ------------------------------------------------------------------------------------------


def _compose(outer: Pointwise, facts: AliasFacts, static: set[fx.Node], context: PassContext) -> fx.Node | None:
    """The two maps ``outer`` and the one before it as one, or ``None``."""
    inner = read_pointwise(outer.x)
    if not isinstance(inner, Pointwise) or outer.node in static:
        return None
    nodes = [outer.node, inner.node]
    reason = written_to(facts, *nodes) or _keep_apart(outer, inner, static)
    if reason is not None:
        context.remark("declined", "compose", reason, nodes)
        return None
    if not context.admits("compose", nodes):
        return None
    graph, made_by = outer.node.graph, f"{NAME}/compose"
    saved = _multiplications(outer, inner)
    with graph.inserting_before(outer.node):
        first, second = (weight_matrix(graph, call, made_by) for call in (inner, outer))
        product = insert_call(graph, aten.matmul.default, (second, first), like=outer.node, made_by=made_by)
        bias = outer.bias
        if inner.bias is not None:
            moved = insert_call(graph, aten.mv.default, (second, inner.bias), like=outer.node, made_by=made_by)
            both = (moved, bias)
            bias = (
                moved if bias is None else insert_call(graph, aten.add.Tensor, both, like=outer.node, made_by=made_by)
            )
        weight = weight_of_matrix(graph, product, outer, made_by)
        new = insert_pointwise(graph, outer, inner.x, weight, bias, made_by)
    context.remark(
        "applied",
        "compose",
        f"W₂(W₁x + b₁) + b₂ -> (W₂W₁)x + (W₂b₁ + b₂): {inner.in_channels} → {inner.out_channels} → "
        f"{outer.out_channels} channels",
        nodes,
        multiplications_saved=saved,
    )
    replace_node(outer.node, new)
    erase_if_dead(outer.node)
    return new


def _multiplications(outer: Pointwise, inner: Pointwise) -> int:
    """How many fewer there are at every place."""
    dies = len(inner.node.users) == 1
    apart = outer.out_channels * outer.in_channels + (inner.out_channels * inner.in_channels if dies else 0)
    return apart - outer.out_channels * inner.in_channels


def _keep_apart(outer: Pointwise, inner: Pointwise, static: set[fx.Node]) -> str | None:
    if not outer.like(inner):
        return "one is a convolution and the other linear, or their dtypes differ"
    if feeds_periodic(outer.node):
        return f"{outer.node} is the argument of a sine or cosine, which would make another rounding of it visible"
    saved = _multiplications(outer, inner)
    if saved <= 0:
        other = " while its result is used elsewhere" if len(inner.node.users) > 1 else ""
        return (
            f"one map of {inner.in_channels} → {outer.out_channels} channels costs more than two by way of "
            f"{inner.out_channels}{other}"
        )
    once = is_static(outer.weight, static) and is_static(inner.weight, static)
    work = outer.out_channels * inner.out_channels * inner.in_channels
    if not once and saved * least(outer.places) <= work:
        return "the weights vary from call to call, and their product costs more than it saves"
    return None


# --- channels that occur several times --------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Part:
    """Channels ``start … start + size`` of a map's input: those of ``node``, repeated."""

    node: fx.Node
    start: int
    size: int
    repeat: Repeat | None


def _parts(call: Pointwise) -> list[_Part]:
    """What the channels of the input are made of, one after the other."""
    pieces = [call.x]
    if call.x.target is aten.cat.default:
        arguments = call_arguments(call.x)
        if arguments["dim"] % len(shape_of(call.x)) == call.axis:
            pieces = list(arguments["tensors"])
    parts, start = [], 0
    for piece in pieces:
        size = shape_of(piece)[call.axis]
        if not isinstance(size, int):
            return []
        parts.append(_Part(piece, start, size, read_repeat(piece, call.axis)))
        start += size
    return parts


def _fold(call: Pointwise, facts: AliasFacts, static: set[fx.Node], context: PassContext) -> fx.Node | None:
    """``call`` with each channel of its input once, or ``None``."""
    parts = _parts(call)
    repeated = [part for part in parts if part.repeat is not None]
    if not repeated or call.node in static:
        return None
    nodes = [call.node, *(part.node for part in repeated)]
    saved = sum(part.size - part.size // part.repeat.times for part in repeated if part.repeat) * call.out_channels
    reason = written_to(facts, *nodes)
    if feeds_periodic(call.node):
        reason = f"{call.node} is the argument of a sine or cosine, which would make another rounding of it visible"
    if len(parts) > 1 and len(call.x.users) > 1:
        reason = reason or f"{call.x} has other uses, and a second concatenation would have to be made"
    if not is_static(call.weight, static) and saved * least(call.places) <= call.in_channels * call.out_channels:
        reason = reason or "the weight varies from call to call, and adding up its columns costs more than it saves"
    if reason is not None:
        context.remark("declined", "repeat", reason, nodes)
        return None
    if not context.admits("repeat", nodes):
        return None
    graph, made_by = call.node.graph, f"{NAME}/repeat"
    with graph.inserting_before(call.node):
        matrix = weight_matrix(graph, call, made_by)
        columns = [_columns(graph, matrix, part, call, made_by) for part in parts]
        sources = [part.node if part.repeat is None else part.repeat.source for part in parts]
        x = sources[0]
        if len(parts) > 1:
            matrix = insert_call(graph, aten.cat.default, (columns, 1), like=call.node, made_by=made_by)
            x = insert_call(graph, aten.cat.default, (sources, call.axis), like=call.x, made_by=made_by)
        else:
            matrix = columns[0]
        new = insert_pointwise(graph, call, x, weight_of_matrix(graph, matrix, call, made_by), call.bias, made_by)
    what = ", ".join(f"{part.repeat.times} × {part.repeat.source}" for part in repeated if part.repeat)
    context.remark(
        "applied",
        "repeat",
        f"W · repeat(y) -> (Σ W) · y for {what}",
        nodes,
        multiplications_saved=saved,
    )
    replace_node(call.node, new)
    erase_if_dead(call.node)
    return new


def _columns(graph: fx.Graph, matrix: fx.Node, part: _Part, call: Pointwise, made_by: str) -> fx.Node:
    """The columns of ``matrix`` that meet ``part``; those of equal channels added up."""
    like, out = call.node, call.out_channels
    found = matrix
    if part.size != call.in_channels:
        bounds = (matrix, 1, part.start, part.start + part.size)
        found = insert_call(graph, aten.slice.Tensor, bounds, like=like, made_by=made_by)
    if part.repeat is None:
        return found
    times = part.repeat.times
    shape, axis = ((out, times, -1), 1) if part.repeat.tiled else ((out, -1, times), 2)
    grouped = insert_call(graph, aten.reshape.default, (found, list(shape)), like=like, made_by=made_by)
    return insert_call(graph, aten.sum.dim_IntList, (grouped, [axis]), like=like, made_by=made_by)


COMPOSE_LINEAR = Pass(NAME, "Make one 1×1 convolution of two in a row; fold repeated channels into its weight.", _run)
