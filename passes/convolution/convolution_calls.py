"""One description for the many spellings of a convolution call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import fx
from torch.fx.node import Target

from tzwc.errors import InvalidArgumentError
from tzwc.ops import normalize_padding
from tzwc.ops.conv.problem import PaddingMode
from tzwc.passes.hyperzzw.peel import periods_added, zeros_added
from tzwc.passes.shared.sizes import Size, known_int, same_size, shape_of
from tzwc.rewrite.patterns import call_arguments

__all__ = ["CONVOLUTIONS", "Convolution", "absorb", "read_convolution"]

aten = torch.ops.aten

CONVOLUTIONS: frozenset[Target] = frozenset(
    {
        aten.conv1d.default,
        aten.conv2d.default,
        aten.conv3d.default,
        aten.conv1d.padding,
        aten.conv2d.padding,
        aten.conv3d.padding,
        aten.convolution.default,
        aten._convolution.default,
    }
)


@dataclass(frozen=True)
class Convolution:
    """A convolution that is not transposed.

    Attributes:
        node: the call.
        x: input, `(B, C, *S)`.
        weight: `(O, C / groups, *K)`.
        bias: `(O,)`, or ``None``.
        stride: step along each axis, from output to output.
        dilation: step along each axis, from tap to tap.
        padding: elements before and after each axis.
        groups: a number, or the node of a symbolic one.
        group_count: its value, possibly symbolic.
        kernel_size: taps along each axis.
        padding_mode: what the padding holds.
        flip: the taps run backwards.
    """

    node: fx.Node
    x: fx.Node
    weight: fx.Node
    bias: fx.Node | None
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    groups: int | fx.Node
    group_count: Size
    kernel_size: tuple[int, ...]
    padding_mode: PaddingMode = "zeros"
    flip: bool = False

    @property
    def axes(self) -> int:
        return len(self.kernel_size)

    @property
    def is_depthwise(self) -> bool:
        """One filter for each channel, none summed over channels."""
        channels, filters = shape_of(self.x)[1], shape_of(self.weight)[0]
        return same_size(channels, filters) and same_size(channels, self.group_count)

    @property
    def is_dilated(self) -> bool:
        """Whether the taps are apart."""
        return any(d != 1 for d, taps in zip(self.dilation, self.kernel_size, strict=True) if taps > 1)


def read_convolution(node: fx.Node) -> Convolution | str | None:
    """Describe ``node``; a reason when it is a convolution of a kind not handled; ``None`` when it is not one."""
    if node.target not in CONVOLUTIONS:
        return None
    call = call_arguments(node)
    x, weight = call["input"], call["weight"]
    kernel_size = shape_of(weight)[2:]
    if len(shape_of(x)) != len(shape_of(weight)):
        return "the input has no batch axis"
    if any(not isinstance(k, int) for k in kernel_size):
        return "the kernel's size is not known at capture"
    if call.get("transposed"):
        return "the convolution is transposed"
    taps = tuple(int(k) for k in kernel_size)
    dilation = _numbers(call["dilation"], len(taps))
    stride = _numbers(call["stride"], len(taps))
    if stride is None or dilation is None:
        return "stride or dilation is not known at capture"
    padding = call["padding"] if isinstance(call["padding"], str) else _numbers(call["padding"], len(taps))
    if padding is None:
        return "padding is not known at capture"
    try:
        reach = tuple(d * (k - 1) + 1 for d, k in zip(dilation, taps, strict=True))
        pairs = normalize_padding(padding, reach)
    except InvalidArgumentError as error:
        return str(error)
    groups = call["groups"]
    count = groups.meta["val"] if isinstance(groups, fx.Node) else groups
    return Convolution(node, x, weight, call["bias"], stride, dilation, pairs, groups, count, taps)


def absorb(call: Convolution) -> Convolution:
    """The same convolution with the padding of its input and the reversal of its taps as part of it."""
    x, padding, mode = call.x, call.padding, call.padding_mode
    while (added := zeros_added(x, call.axes)) is not None:
        padding = tuple((a + c, b + d) for (a, b), (c, d) in zip(padding, added, strict=True))
        x = call_arguments(x)["self"]
    periods = None if any(any(pair) for pair in padding) else periods_added(x, call.axes)
    if periods is not None:
        x, padding, mode = call_arguments(x)["self"], periods, "circular"
    weight, flip = call.weight, False
    if weight.target is aten.flip.default:
        reversal = call_arguments(weight)
        rank = len(shape_of(weight))
        if {int(d) % rank - 2 for d in reversal["dims"]} == set(range(call.axes)):
            weight, flip = reversal["self"], True
    return replace(call, x=x, padding=padding, padding_mode=mode, weight=weight, flip=flip)


def _numbers(value: object, axes: int) -> tuple[int, ...] | None:
    items = value if isinstance(value, Sequence) else [value]
    numbers = [n for item in items if (n := known_int(item)) is not None]
    if len(numbers) != len(items):
        return None
    return tuple(numbers * axes if len(numbers) == 1 else numbers)
