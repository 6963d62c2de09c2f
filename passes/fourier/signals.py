"""Where the values of a real tensor sit among the points of a transform.

A signal handed to a transform of ``N`` points puts ``source[i]`` at the point ``sign · i + offset`` modulo ``N``, for
each transformed axis by itself. Zero padding, ``flip``, ``roll`` and concatenation with zeros only change ``sign`` and
``offset``; conjugating the spectrum negates both, since ``conj(F s)[f] = F(s[-t mod N])[f]`` for real ``s``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import fx

from tzwc.passes.shared.sizes import known_int, same_shape, shape_of
from tzwc.rewrite.patterns import call_arguments

__all__ = ["Label", "Signal", "circular_shift", "locate"]

aten = torch.ops.aten

Label = int | None
"""Names an axis across tensors: equal numbers are one axis, ``None`` has size 1, negative numbers are transformed."""

_ZEROS = (aten.zeros.default, aten.zeros_like.default, aten.new_zeros.default)


@dataclass(frozen=True)
class Signal:
    """A real tensor among the points of a transform.

    Attributes:
        source: the tensor, `(*lead, *S)`.
        lead: a label for each leading axis.
        parts: for each transformed axis, the first and one past the last element that counts.
        signs: 1, or -1 where the tensor runs backwards.
        offsets: the point of element 0, modulo the number of points.
        nodes: the calls from here to the product of two spectra.
    """

    source: fx.Node
    lead: tuple[Label, ...]
    parts: tuple[tuple[int, int], ...]
    signs: tuple[int, ...]
    offsets: tuple[int, ...]
    nodes: tuple[fx.Node, ...] = ()

    @property
    def lengths(self) -> tuple[int, ...]:
        return tuple(stop - start for start, stop in self.parts)

    def conjugated(self) -> Signal:
        return replace(self, signs=tuple(-s for s in self.signs), offsets=tuple(-o for o in self.offsets))


def locate(node: fx.Node, sizes: tuple[int, ...]) -> Signal:
    """``node`` as the argument of a transform with ``sizes`` points, below padding, reversals, rotations and copies.

    The labels are left as ``None``. All sizes of transformed axes must be known.
    """
    axes = len(sizes)
    lengths = _lengths(node, axes)
    signs, offsets = [1] * axes, [0] * axes
    nodes: list[fx.Node] = []
    while all(length <= n for length, n in zip(lengths, sizes, strict=True)):
        step = _inside(node, lengths, sizes)
        if step is None:
            break
        nodes.append(node)
        node, inner_signs, inner_offsets = step
        for a in range(axes):  # point = sign · (inner sign · i + inner offset) + offset
            offsets[a] += signs[a] * inner_offsets[a]
            signs[a] *= inner_signs[a]
        lengths = _lengths(node, axes)
    parts = tuple((0, min(length, n)) for length, n in zip(lengths, sizes, strict=True))
    lead = (None,) * (len(shape_of(node)) - axes)
    return Signal(node, lead, parts, tuple(signs), tuple(offsets), tuple(nodes))


def _lengths(node: fx.Node, axes: int) -> tuple[int, ...]:
    return tuple(int(n) for n in shape_of(node)[-axes:])


_Step = tuple[fx.Node, list[int], list[int]]


def _inside(node: fx.Node, lengths: tuple[int, ...], sizes: tuple[int, ...]) -> _Step | None:
    """The argument of ``node``, with the index in ``node`` of its elements as signs and offsets."""
    if node.op != "call_function":
        return None
    axes, rank = len(sizes), len(shape_of(node))
    ones, zeros = [1] * axes, [0] * axes
    call = call_arguments(node)
    if node.target is aten.cat.default:
        return _inside_zeros(node, axes)
    if node.target not in _LOOKED_THROUGH:
        return None
    inner = call["self"]
    padding = _zeros_before(node, call, axes)
    if padding is not None:
        return inner, ones, padding
    if node.target is aten.flip.default:
        flipped = [int(d) % rank - (rank - axes) for d in call["dims"]]
        if min(flipped, default=-1) < 0:
            return None
        return (
            inner,
            [-1 if a in flipped else 1 for a in range(axes)],
            [lengths[a] - 1 if a in flipped else 0 for a in range(axes)],
        )
    if node.target is aten.expand.default and same_shape(shape_of(node)[-axes:], shape_of(inner)[-axes:]):
        return inner, ones, zeros
    shift = circular_shift(node, axes)
    if shift is not None and all(s == 0 or k == n for s, k, n in zip(shift, lengths, sizes, strict=True)):
        return inner, ones, list(shift)
    return None


_LOOKED_THROUGH = (
    aten.pad.default,
    aten.constant_pad_nd.default,
    aten.flip.default,
    aten.expand.default,
    aten.roll.default,
    aten.fft_fftshift.default,
    aten.fft_ifftshift.default,
)


def _zeros_before(node: fx.Node, call: dict[str, Any], axes: int) -> list[int] | None:
    """How many zeros ``node`` puts in front of each of the last ``axes`` axes, if zeros around them is all it adds."""
    if node.target not in (aten.pad.default, aten.constant_pad_nd.default):
        return None
    if call.get("mode", "constant") != "constant" or call.get("value") not in (None, 0):
        return None
    flat = [known_int(n) for n in call["pad"]]
    numbers = [n for n in flat if n is not None and n >= 0]
    if len(numbers) != len(flat) or any(numbers[2 * axes :]):
        return None
    before = (numbers[::2] + [0] * axes)[:axes]  # the last axis comes first
    return before[::-1]


def _inside_zeros(node: fx.Node, axes: int) -> _Step | None:
    """``cat`` of one tensor with zeros, along a transformed axis."""
    call = call_arguments(node)
    rank = len(shape_of(node))
    axis = int(call["dim"]) % rank - (rank - axes)
    rest = [t for t in call["tensors"] if t.target not in _ZEROS]
    if axis < 0 or len(rest) != 1 or any(len(shape_of(t)) != rank for t in call["tensors"]):
        return None
    before = call["tensors"][: call["tensors"].index(rest[0])]
    offset = sum(_lengths(t, axes)[axis] for t in before)
    return rest[0], [1] * axes, [offset if a == axis else 0 for a in range(axes)]


def circular_shift(node: fx.Node, axes: int) -> tuple[int, ...] | None:
    """How far ``node`` rotates each of the last ``axes`` axes; ``None`` when it does anything else."""
    rank = len(shape_of(node))
    first = rank - axes
    shift = [0] * axes
    call = call_arguments(node)
    if node.target is aten.roll.default:
        steps = [known_int(s) for s in call["shifts"]]
        dims = [int(d) % rank - first for d in call["dims"]]
        if not dims or min(dims) < 0:
            return None
        for step, axis in zip(steps, dims, strict=True):
            if step is None:
                return None
            shift[axis] += step
        return tuple(shift)
    if node.target in (aten.fft_fftshift.default, aten.fft_ifftshift.default):
        dims = list(range(rank)) if call["dim"] is None else [int(d) % rank for d in call["dim"]]
        if min(dims, default=-1) < first:
            return None
        for d in dims:
            half = int(shape_of(node)[d]) // 2
            shift[d - first] += half if node.target is aten.fft_fftshift.default else -half
        return tuple(shift)
    return None
