"""One description for the many spellings of a discrete Fourier transform.

With ``n`` points in all, the forward transform is counted without a factor and the inverse one with ``1/n``; any other
normalisation is a power of ``n`` on top of that:

===============  ==========  ===========
``norm``         forward     inverse
===============  ==========  ===========
``"backward"``   ``n^0``     ``n^0``
``"ortho"``      ``n^-½``    ``n^½``
``"forward"``    ``n^-1``    ``n^1``
===============  ==========  ===========
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import torch
from torch import fx
from torch.fx.node import Target

from tzwc.ir.graph import tensor_value
from tzwc.ops import fft
from tzwc.passes.shared.sizes import Size, known_int, shape_of
from tzwc.rewrite.patterns import call_arguments

__all__ = ["FORWARD", "INVERSE", "Declined", "Transform", "mentions_transform", "read_transform", "real_constant"]

assert fft.__all__  # registers the operators of tzwc

aten = torch.ops.aten

# target: (forward, real on its real side)
_CALLS: dict[Target, tuple[bool, bool]] = {
    getattr(aten, f"fft_{kind}{axes}").default: (not kind.startswith("i"), "r" in kind)
    for kind in ("rfft", "irfft", "fft", "ifft")
    for axes in ("", "2", "n")
}
_CALLS[torch.ops.tzwc.rfftn.default] = (True, True)
_CALLS[torch.ops.tzwc.irfftn.default] = (False, True)
_CALLS[aten._fft_r2c.default] = (True, True)
_CALLS[aten._fft_c2r.default] = (False, True)

FORWARD = frozenset(target for target, (forward, _) in _CALLS.items() if forward)
"""Operators from signals to spectra."""

INVERSE = frozenset(target for target, (forward, _) in _CALLS.items() if not forward)
"""Operators from spectra to signals."""

_POWERS = {"backward": Fraction(0), "ortho": Fraction(1, 2), "forward": Fraction(1)}
_MODES = ("backward", "ortho", "forward")


class Declined(Exception):
    """Why a call is not understood, or must be left alone."""


@dataclass(frozen=True)
class Transform:
    """A transform over the last ``len(sizes)`` axes.

    Attributes:
        node: the call.
        source: what it transforms.
        sizes: numbers of points, `N` for each axis.
        half: only the `N // 2 + 1` frequencies of the last axis that a real signal needs are stored.
        power: of the number of all points, by which the result is multiplied; see the module.
    """

    node: fx.Node
    source: fx.Node
    sizes: tuple[int, ...]
    half: bool
    power: Fraction


def read_transform(node: fx.Node) -> Transform:
    """Describe a call of one of :data:`FORWARD` or :data:`INVERSE`.

    Raises:
        Declined: axes other than the last ones, sizes that are not known at capture, a complex signal.
    """
    forward, half = _CALLS[node.target]
    call = call_arguments(node)
    source = call.get("self", call.get("x", call.get("spectrum")))
    value = tensor_value(source)
    assert isinstance(source, fx.Node)
    if value is None or (forward and not value.dtype.is_floating_point):
        raise Declined(f"{source}, which {node} transforms, is not a real floating-point tensor")
    shape = shape_of(source)
    power = _power(call)
    if node.target is aten._fft_r2c.default:
        half = bool(call["onesided"])
    axes, points = _axes_and_points(node, call, shape)
    if axes != list(range(len(shape) - len(axes), len(shape))):
        raise Declined(f"{node} transforms the axes {axes} of {len(shape)}, not the last ones")
    sizes: list[int] = []
    for axis, given in zip(axes, points, strict=True):
        here = shape[axis]
        size = known_int(here) if given is None else given
        if size is None:
            raise Declined(f"the size {here} of axis {axis} that {node} transforms is not known at capture")
        if given is None and not forward and half and axis == axes[-1]:
            size = 2 * (size - 1)
        sizes.append(size)
    if min(sizes, default=0) < 2:
        raise Declined(f"{node} has fewer than two points")
    return Transform(node, source, tuple(sizes), half, -power if forward else power)


def _power(call: dict[str, Any]) -> Fraction:
    if "normalization" in call:  # of the operators below torch.fft: 0 for none, 1 for the root, 2 for all
        mode = int(call["normalization"])
        return _POWERS[_MODES[2 - mode if "last_dim_size" in call else mode]]
    return _POWERS[call.get("norm") or "backward"]


def _axes_and_points(node: fx.Node, call: dict[str, Any], shape: Sequence[Size]) -> tuple[list[int], list[int | None]]:
    """The transformed axes in order, and the sizes asked for; ``None`` for an axis whose own size is meant."""
    rank = len(shape)
    points = call["size"] if "size" in call else call["n"] if "n" in call else call.get("s")
    dims = call.get("dim")
    if points is not None and not isinstance(points, Sequence):
        points = [points]
    if dims is None:
        dims = list(range(-len(points), 0)) if points is not None else list(range(rank))
    axes = [int(d) % rank for d in ([dims] if isinstance(dims, int) else dims)]
    if "last_dim_size" in call:
        points = [*[None] * (len(axes) - 1), call["last_dim_size"]]
    if points is None:
        return axes, [None] * len(axes)
    known = [known_int(p) for p in points]
    if any(k is None and p is not None for k, p in zip(known, points, strict=True)) or len(known) != len(axes):
        raise Declined(f"the number of points {points} of {node} is not known at capture")
    return axes, [None if k == -1 else k for k in known]


def mentions_transform(node: fx.Node) -> bool:
    """Whether a forward transform is found below ``node`` by way of complex tensors."""
    seen: set[fx.Node] = set()
    pending = [node]
    while pending:
        here = pending.pop()
        if here.target in FORWARD:
            return True
        value = here.meta.get("val")
        if here not in seen and isinstance(value, torch.Tensor) and value.is_complex():
            seen.add(here)
            pending.extend(here.all_input_nodes)
    return False


def real_constant(value: object) -> Fraction | None:
    """A finite real number in a graph, exactly; ``None`` for anything else."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
        return Fraction(value)
    return None
