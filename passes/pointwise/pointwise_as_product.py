"""Compute 1×1 convolutions as matrix products of the weight with the channels, in the layout that the input has.

``y[b, o, n] = Σ_c W[o, c] · x[b, c, n] + bias[o]``: a product ``W · x_b`` for each sample, the grid as its columns. The
convolution library reorders a contiguous input to a blocked layout and the result back; the product reads and
writes tensors as they are. Measured with one thread on an AVX-512 core, torch 2.13, 32×32 points, milliseconds for the
convolution and the product:

===========  ============  ============  ===========
channels     batch 1       batch 2       batch 16
===========  ============  ============  ===========
1728 → 288   9.9 / 9.7     23.1 / 22.6   246 / 165
864 → 144    2.4 / 2.2     5.4 / 6.0     69 / 39
144 → 144    0.65 / 0.54   1.2 / 1.1     12.5 / 8.7
36 → 36      0.04 / 0.03   0.08 / 0.05   1.8 / 0.47
===========  ============  ============  ===========

Below some 64 points a sample the many small products cost more (batch 32, 256 channels, 8 points: 0.7 / 1.3).
The products and their sums are the convolution's own, up to the order of summation.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import fx
from torch.fx.node import Argument

from tzwc.ir.graph import insert_call, replace_node, tensor_value
from tzwc.passes.cse import merge_equal_calls
from tzwc.passes.normalize.reshapes import RESHAPE_RULES
from tzwc.passes.pointwise.linear_maps import Pointwise, feeds_periodic, read_pointwise, weight_matrix, written_to
from tzwc.passes.shared.sizes import shape_of, static_nodes
from tzwc.rewrite.pass_manager import Pass, PassContext
from tzwc.rewrite.rules import AliasFacts, apply_rules, erase_if_dead

__all__ = ["POINTWISE_AS_PRODUCT"]

aten = torch.ops.aten
NAME = "pointwise_as_product"
RULE = "product"

_FEWEST_POINTS = 64
_MADE_BY = f"{NAME}/{RULE}"


def _run(module: fx.GraphModule, context: PassContext) -> None:
    graph = module.graph
    static = static_nodes(graph, context.static_slots)
    facts = AliasFacts(graph)
    for node in list(graph.nodes):
        call = read_pointwise(node)
        if isinstance(call, str):
            context.remark("declined", RULE, call, (node,))
        if not isinstance(call, Pointwise) or not call.is_convolution or node in static:
            continue
        reason = written_to(facts, node) or _keep(call)
        if reason is not None:
            context.remark("declined", RULE, reason, (node,))
        elif context.admits(RULE, (node,)):
            _rewrite(call, context)
    # So that a second run of the pipeline finds nothing left to do.
    apply_rules(graph, RESHAPE_RULES, context)
    merge_equal_calls(graph, context, among=_is_own)


def _is_own(node: fx.Node) -> bool:
    """Whether this pass made ``node``, or ``compose_linear``, which writes weights too, or the reshape rules did."""
    return str(node.meta.get("tzwc_made_by")).partition("/")[0] in (NAME, "compose_linear", "normalize")


def _keep(call: Pointwise) -> str | None:
    """Why ``call`` should stay a convolution."""
    value = tensor_value(call.x)
    assert value is not None
    batch, *points = (value.shape[0], *value.shape[2:])
    if value.device.type != "cpu":
        return f"it is on {value.device.type}, and only measured to pay on cpu"
    if feeds_periodic(call.node):
        return f"{call.node} is the argument of a sine or cosine, which would make another rounding of it visible"
    if any(not isinstance(size, int) for size in points):
        return f"the grid {points} is not known at capture"
    if batch != 1 and math.prod(points) < _FEWEST_POINTS:
        return f"{math.prod(points)} points a sample; products of fewer than {_FEWEST_POINTS} columns do not pay"
    if not value.is_contiguous():
        return f"the channels of {call.x} are not in front of its grid in memory, where the convolution is faster"
    return None


def _rewrite(call: Pointwise, context: PassContext) -> None:
    node, graph = call.node, call.node.graph
    batch, points = shape_of(call.x)[0], math.prod(int(n) for n in shape_of(call.x)[2:])

    def insert(target: Callable[..., object], *arguments: Argument) -> fx.Node:
        return insert_call(graph, target, arguments, like=node, made_by=_MADE_BY)

    with graph.inserting_before(node):
        weight = weight_matrix(graph, call, _MADE_BY)
        if batch == 1:
            x = insert(aten.reshape.default, call.x, [call.in_channels, points])
            result = insert(aten.matmul.default, weight, x)
        else:
            x = insert(aten.reshape.default, call.x, [-1, call.in_channels, points])
            samples = batch if isinstance(batch, int) else insert(aten.sym_size.int, call.x, 0)
            single = insert(aten.reshape.default, weight, [1, *shape_of(weight)])
            copies = insert(aten.expand.default, single, [samples, *shape_of(weight)])
            result = insert(aten.matmul.default, copies, x)
        if call.bias is not None:
            result = insert(aten.add.Tensor, result, insert(aten.reshape.default, call.bias, [-1, 1]))
        shape = [-1, *shape_of(node)[1:]] if batch != 1 else list(shape_of(node))
        new = insert(aten.reshape.default, result, shape)
    context.remark(
        "applied",
        RULE,
        f"conv(x, W) -> W · x for each sample: {call.in_channels} → {call.out_channels} channels, {points} points",
        (node,),
    )
    replace_node(node, new)
    erase_if_dead(node)


POINTWISE_AS_PRODUCT = Pass(NAME, "Compute 1×1 convolutions as matrix products.", _run)
