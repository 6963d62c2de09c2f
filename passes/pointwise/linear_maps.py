"""One description of a linear map over the channels, the same at every place: a 1×1 convolution, or ``linear``."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
from torch import fx
from torch.fx.node import Target

from tzwc.ir.graph import insert_call, tensor_value
from tzwc.passes.convolution.convolution_calls import CONVOLUTIONS, read_convolution
from tzwc.passes.shared.sizes import Size, shape_of
from tzwc.rewrite.patterns import call_arguments
from tzwc.rewrite.rules import AliasFacts

__all__ = [
    "POINTWISE",
    "Pointwise",
    "feeds_periodic",
    "insert_pointwise",
    "least",
    "read_pointwise",
    "weight_matrix",
    "weight_of_matrix",
    "written_to",
]

aten = torch.ops.aten

POINTWISE: frozenset[Target] = CONVOLUTIONS | {aten.linear.default}

_BY_RANK = {3: aten.conv1d.default, 4: aten.conv2d.default, 5: aten.conv3d.default}


@dataclass(frozen=True)
class Pointwise:
    """``y[…, o, …] = Σ_c weight[o, c] · x[…, c, …] + bias[o]`` at every place.

    Attributes:
        node: the call.
        x: input, `(B, C, *S)` for a convolution and `(*S, C)` for ``linear``.
        weight: `(O, C, 1, …)` with as many ones as ``x`` has spatial axes, or `(O, C)`.
        bias: `(O,)`, or ``None``.
        axis: the axis of the channels of ``x`` and of the result.
    """

    node: fx.Node
    x: fx.Node
    weight: fx.Node
    bias: fx.Node | None
    axis: int

    @property
    def in_channels(self) -> int:
        return int(shape_of(self.weight)[1])

    @property
    def out_channels(self) -> int:
        return int(shape_of(self.weight)[0])

    @property
    def is_convolution(self) -> bool:
        return self.node.target is not aten.linear.default

    @property
    def places(self) -> Size:
        """How often the map is applied: samples times grid points."""
        count: Size = 1
        for axis, size in enumerate(shape_of(self.x)):
            count = count if axis == self.axis else count * size
        return count

    def like(self, other: Pointwise) -> bool:
        """Whether both have the same form and their tensors the same dtype."""
        mine, its = tensor_value(self.node), tensor_value(other.node)
        assert mine is not None
        assert its is not None
        return self.is_convolution == other.is_convolution and mine.dtype == its.dtype


def read_pointwise(
    node: object, dtypes: Collection[torch.dtype] = (torch.float32, torch.float64)
) -> Pointwise | str | None:
    """Describe ``node``; a reason when it is one with sizes or types not handled; ``None`` for anything else.

    Args:
        dtypes: those that are handled, of input, weight and result.
    """
    if not isinstance(node, fx.Node) or node.target not in POINTWISE:
        return None
    if node.target is aten.linear.default:
        call = call_arguments(node)
        found = Pointwise(node, call["input"], call["weight"], call["bias"], len(shape_of(call["input"])) - 1)
        if len(shape_of(call["weight"])) != 2:
            return None  # a single output, without an axis of its own
    else:
        convolution = read_convolution(node)
        if convolution is None or isinstance(convolution, str) or any(k != 1 for k in convolution.kernel_size):
            return None  # not handled by any rule, or not pointwise
        if any(s != 1 for s in convolution.stride) or any(p != (0, 0) for p in convolution.padding):
            return "a stride or padding makes other places of the result than the input has"
        if not isinstance(convolution.group_count, int) or convolution.group_count != 1:
            return f"{convolution.group_count} groups; each sees some of the channels only"
        found = Pointwise(node, convolution.x, convolution.weight, convolution.bias, 1)
    tensors = [tensor_value(n) for n in (found.x, found.weight, node)]
    if any(t is None or t.dtype not in dtypes for t in tensors):
        return f"it is not in {' or '.join(str(dtype).removeprefix('torch.') for dtype in dtypes)}"
    if any(not isinstance(size, int) or size == 0 for size in shape_of(found.weight)):
        return "its channels are not known at capture, or there are none"
    return found


def insert_pointwise(
    graph: fx.Graph, like: Pointwise, x: fx.Node, weight: fx.Node, bias: fx.Node | None, made_by: str
) -> fx.Node:
    """A map of the form of ``like`` with other tensors, at the graph's insertion point."""
    arguments: Sequence[fx.Node | None] = (x, weight) if bias is None else (x, weight, bias)
    target = _BY_RANK[len(shape_of(x))] if like.is_convolution else aten.linear.default
    return insert_call(graph, target, arguments, like=like.node, made_by=made_by)


def weight_matrix(graph: fx.Graph, call: Pointwise, made_by: str) -> fx.Node:
    """The weight of ``call`` as `(O, C)`."""
    if not call.is_convolution:
        return call.weight
    shape = [call.out_channels, call.in_channels]
    return insert_call(graph, aten.reshape.default, (call.weight, shape), like=call.node, made_by=made_by)


def weight_of_matrix(graph: fx.Graph, matrix: fx.Node, call: Pointwise, made_by: str) -> fx.Node:
    """``matrix`` `(O, C)` as a weight for a map of the form of ``call``."""
    if not call.is_convolution:
        return matrix
    shape = [*shape_of(matrix), *(1 for _ in shape_of(call.x)[2:])]
    return insert_call(graph, aten.reshape.default, (matrix, shape), like=call.node, made_by=made_by)


_PERIODIC = {aten.sin.default, aten.cos.default, aten.sinc.default}
_SCALES = {
    aten.add.Tensor,
    aten.mul.Tensor,
    aten.sub.Tensor,
    aten.div.Tensor,
    aten.reshape.default,
    aten.permute.default,
}


def feeds_periodic(node: fx.Node) -> bool:
    """Whether ``node`` is, up to scale and offset, the argument of a sine.

    A sine network's argument reaches 1e5, and a rounding error of it becomes an error of the sine as large.
    """
    seen: set[fx.Node] = set()
    pending = [node]
    while pending:
        for user in pending.pop().users:
            if user.target in _PERIODIC:
                return True
            if user.target in _SCALES and user not in seen:
                seen.add(user)
                pending.append(user)
    return False


def written_to(facts: AliasFacts, *nodes: fx.Node) -> str | None:
    """Why ``nodes`` must stay: the first tensor that they read or return and that the program writes to."""
    found = next((n for node in nodes for n in (node, *node.all_input_nodes) if facts.is_written(n)), None)
    return None if found is None else f"{found} shares memory that the program writes to"


def least(size: Size) -> int:
    """A number that ``size`` is never below, unless it is 0: a symbolic size counts as 1."""
    if isinstance(size, int):
        return size
    expression = size.node.expr
    return int(expression.subs(dict.fromkeys(expression.free_symbols, 1)))
