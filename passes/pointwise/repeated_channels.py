"""Recognise a tensor some of whose channels occur several times."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import fx

from tzwc.passes.shared.sizes import known_int, same_shape, shape_of
from tzwc.rewrite.patterns import call_arguments

__all__ = ["Repeat", "read_repeat"]

aten = torch.ops.aten


@dataclass(frozen=True)
class Repeat:
    """Channels that occur ``times`` times.

    Attributes:
        source: each channel once.
        times: at least 2.
        tiled: ``a b c a b c``; otherwise ``a a b b c c``.
    """

    source: fx.Node
    times: int
    tiled: bool


def read_repeat(node: fx.Node, axis: int) -> Repeat | None:
    """``node`` as repeated channels along ``axis``; ``None`` when it is not known to be that.

    In canonical form (``normalize``) ``einops.repeat``, ``expand`` and ``unsqueeze`` are
    ``reshape(expand(reshape(y)))``.
    """
    if node.op != "call_function":
        return None
    if node.target in (aten.repeat.default, aten.tile.default):
        return _tiled(node, axis)
    if node.target is aten.repeat_interleave.self_int:
        call = call_arguments(node)
        times = known_int(call["repeats"])
        if times is None or times < 2 or call["dim"] is None or call["dim"] % len(shape_of(node)) != axis:
            return None
        return Repeat(call["self"], times, tiled=False)
    if node.target is aten.reshape.default:
        return _expanded(node, axis)
    return None


def _tiled(node: fx.Node, axis: int) -> Repeat | None:
    source, repeats = call_arguments(node).values()
    counts = [known_int(n) for n in repeats]
    if len(counts) != len(shape_of(source)) or any(n != 1 for i, n in enumerate(counts) if i != axis):
        return None
    times = counts[axis]
    return Repeat(source, times, tiled=True) if times is not None and times > 1 else None


def _expanded(node: fx.Node, axis: int) -> Repeat | None:
    """``reshape(expand(inner))`` where the expanded axis is next to the channels and is merged with them."""
    wide = node.args[0]
    if not isinstance(wide, fx.Node) or wide.target is not aten.expand.default:
        return None
    inner = wide.args[0]
    assert isinstance(inner, fx.Node)
    before, after = shape_of(inner), shape_of(wide)
    if len(before) != len(after):
        return None
    grown = [i for i, (a, b) in enumerate(zip(before, after, strict=True)) if a == 1 and b != 1]
    if len(grown) != 1 or not isinstance(after[grown[0]], int):
        return None
    (place,) = grown
    times = int(after[place])
    source = inner.args[0] if inner.target is aten.reshape.default else inner
    assert isinstance(source, fx.Node)
    kept = (*before[:place], *before[place + 1 :])  # as the tensor would be without the axis of copies
    if not same_shape(shape_of(source), kept):
        return None
    whole = shape_of(node)
    if len(whole) != len(kept) or not same_shape(whole[:axis], kept[:axis]):
        return None
    if not same_shape(whole[axis + 1 :], kept[axis + 1 :]):
        return None
    if place == axis:
        return Repeat(source, times, tiled=True)
    return Repeat(source, times, tiled=False) if place == axis + 1 else None
