"""One batched product of several maps with equal channels and inputs of their own; a rule of ``merge_parallel``.

``y_i[1, o, s] = Σ_c W_i[o, c] · x_i[1, c, s] + b_i[o]`` for ``i = 1 … m`` is the product of `(m, O, C)` with
`(m, C, N)`, ``N`` the most places of any of them. The places that others lack are zeros, which reach no result: a map
does the same at every place and sees no other. For one sample each, since then stacking is all that has to be done;
such are the context-dependent slow networks of several branches, which are small, and differ in their places only.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence

import torch
from torch import fx

from tzwc.ir.graph import replace_node, tensor_value
from tzwc.passes.pointwise.linear_maps import Pointwise
from tzwc.passes.pointwise.parallel_maps import Maps, copies
from tzwc.passes.shared.ordering import effect_order, restore_order
from tzwc.passes.shared.sizes import shape_of
from tzwc.rewrite.rules import erase_if_dead

__all__ = ["batch_maps"]

aten = torch.ops.aten
RULE = "batch"


def batch_maps(maps: Maps) -> None:
    """Merge what can be, level by level: a map that needs the result of another one is not merged with that."""
    for calls in _equal(maps):
        while len(calls) > 1 and maps.served(RULE, calls):
            taken = maps.apart(calls)
            _batch(maps, taken)
            calls = [call for call in calls if call not in taken]


def _equal(maps: Maps) -> list[list[Pointwise]]:
    """Groups of maps with equal channels and dtype, of one sample on a known grid."""
    groups: dict[tuple[object, ...], list[Pointwise]] = {}
    for call in maps:
        shape = shape_of(call.x)
        if call.is_convolution and shape[0] == 1 and all(isinstance(n, int) and n for n in shape):
            value = tensor_value(call.node)
            assert value is not None
            groups.setdefault((call.in_channels, call.out_channels, value.dtype, value.device), []).append(call)
    return list(groups.values())


def _places(call: Pointwise) -> int:
    return math.prod(int(n) for n in shape_of(call.x)[2:])


def _batch(maps: Maps, candidates: Sequence[Pointwise]) -> None:
    calls = maps.free(RULE, candidates)
    if len(calls) < 2:
        return
    value = tensor_value(calls[0].node)
    assert value is not None
    most = max(map(_places, calls))
    padding = sum(most - _places(call) for call in calls) * value.element_size()
    kernels, moved = copies([call.x for call in calls], maps.static)
    traffic = -moved - padding * (2 * calls[0].in_channels + calls[0].out_channels)
    if maps.worth(RULE, calls, len(calls) - 1 - kernels, traffic):
        _rewrite(maps, calls, most)


def _rewrite(maps: Maps, calls: Sequence[Pointwise], most: int) -> None:
    graph, out, wide = maps.graph, calls[0].out_channels, calls[0].in_channels
    effects = effect_order(graph)
    insert = maps.inserter(RULE, calls[0].node)

    def padded(call: Pointwise) -> fx.Node:
        x = insert(aten.reshape.default, call.x, [1, wide, _places(call)])
        missing = most - _places(call)
        return insert(aten.constant_pad_nd.default, x, [0, missing]) if missing else x

    def stacked(parts: Sequence[fx.Node], shape: Sequence[int]) -> fx.Node:
        return insert(aten.cat.default, [insert(aten.reshape.default, part, list(shape)) for part in parts], 0)

    with graph.inserting_before(calls[-1].node):
        x = insert(aten.cat.default, [padded(call) for call in calls], 0)
        result = insert(aten.matmul.default, stacked([call.weight for call in calls], (1, out, wide)), x)
        if any(call.bias is not None for call in calls):
            biases = [call.bias or insert(aten.new_zeros.default, call.weight, [out]) for call in calls]
            result = insert(aten.add.Tensor, result, stacked(biases, (1, out, 1)))
        parts = insert(aten.unbind.int, result)
        for index, call in enumerate(calls):
            part = maps.inserter(RULE, call.node)
            one = part(operator.getitem, parts, index)
            own = part(aten.slice.Tensor, one, 1, 0, _places(call)) if _places(call) < most else one
            replace_node(call.node, part(aten.reshape.default, own, list(map(int, shape_of(call.node)))))
    maps.context.remark(
        "applied",
        RULE,
        f"W₁x₁, W₂x₂, … -> one batched product: {wide} → {out} channels at {', '.join(str(_places(c)) for c in calls)} "
        "places",
        [call.node for call in calls],
        maps=len(calls),
    )
    for call in calls:
        erase_if_dead(call.node)
    restore_order(graph, effects)
