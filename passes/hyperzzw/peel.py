"""Look through the calls by which samples and channels become the groups of one convolution."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import fx

from tzwc.passes.shared.sizes import Size, known_int, same_shape, shape_of
from tzwc.rewrite.patterns import call_arguments

__all__ = ["Peeled", "peel_taps", "peel_values", "periods_added", "zeros_added"]

aten = torch.ops.aten


@dataclass(frozen=True)
class Peeled:
    """What was found below reshapes, padding and reversals.

    Attributes:
        source: the node found.
        nodes: the calls looked through, outermost first.
        padding: zeros they add before and after each spatial axis.
        reversed: spatial axes, from 0, along which they reverse.
    """

    source: fx.Node
    nodes: tuple[fx.Node, ...]
    padding: tuple[tuple[int, int], ...]
    reversed: frozenset[int] = frozenset()


def _keeps_trailing(node: fx.Node, axes: int) -> bool:
    """Whether ``node`` only regroups the leading axes; row-major order then stays as it was."""
    if node.target is not aten.reshape.default:
        return False
    return same_shape(shape_of(node)[-axes:], shape_of(node.args[0])[-axes:])


def peel_taps(node: fx.Node, axes: int) -> Peeled:
    """Below reshapes of the leading axes and ``flip`` of the last ``axes`` ones."""
    nodes: list[fx.Node] = []
    reversed_axes: frozenset[int] = frozenset()
    while True:
        rank = len(shape_of(node))
        if node.target is aten.flip.default:
            dims = {int(d) % rank - (rank - axes) for d in call_arguments(node)["dims"]}
            if min(dims, default=0) < 0:
                break
            reversed_axes ^= frozenset(dims)
        elif not _keeps_trailing(node, axes):
            break
        nodes.append(node)
        node = node.args[0]  # type: ignore[assignment]
    return Peeled(node, tuple(nodes), ((0, 0),) * axes, reversed_axes)


def peel_values(node: fx.Node, axes: int, lead: Sequence[Size]) -> Peeled | None:
    """The innermost tensor of shape `(*lead, *S)` below reshapes of the leading axes and zero padding."""
    nodes: list[fx.Node] = []
    padding = ((0, 0),) * axes
    best: Peeled | None = None
    while True:
        shape = shape_of(node)
        if len(shape) == axes + len(lead) and same_shape(shape[: len(lead)], lead):
            best = Peeled(node, tuple(nodes), padding)
        zeros = zeros_added(node, axes)
        if zeros is not None:
            padding = tuple((a + c, b + d) for (a, b), (c, d) in zip(padding, zeros, strict=True))
        elif not _keeps_trailing(node, axes):
            return best
        nodes.append(node)
        node = node.args[0]  # type: ignore[assignment]


def zeros_added(node: fx.Node, axes: int) -> tuple[tuple[int, int], ...] | None:
    """What ``node`` adds around the last ``axes`` axes, if that is all it does and it is zeros."""
    if node.target not in (aten.pad.default, aten.constant_pad_nd.default):
        return None
    call = call_arguments(node)
    fill = call.get("value")
    if call.get("mode", "constant") != "constant" or (fill is not None and fill != 0):
        return None
    return _pairs(call["pad"], axes)


def periods_added(node: fx.Node, axes: int) -> tuple[tuple[int, int], ...] | None:
    """By how much ``node`` continues the last ``axes`` axes periodically, if that is all it does."""
    if node.target is aten.pad.default and call_arguments(node)["mode"] == "circular":
        return _pairs(call_arguments(node)["pad"], axes)
    return None


def _pairs(pad: Sequence[object], axes: int) -> tuple[tuple[int, int], ...] | None:
    """The argument of a padding operator as pairs, the first axis first; ``None`` if it crops or pads other axes."""
    numbers = [n for size in pad if (n := known_int(size)) is not None and n >= 0]
    if len(numbers) != len(pad) or any(numbers[2 * axes :]):
        return None
    numbers = (numbers + [0] * (2 * axes))[: 2 * axes]
    pairs = list(zip(numbers[::2], numbers[1::2], strict=True))  # the last axis comes first
    return tuple(reversed(pairs))
