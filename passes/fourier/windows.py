"""Which part of a signal the program reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import fx

from tzwc.passes.fourier.fourier_calls import Declined
from tzwc.passes.fourier.signals import circular_shift
from tzwc.passes.shared.sizes import known_int, shape_of
from tzwc.rewrite.patterns import call_arguments

__all__ = ["Reading", "Window", "find_reading"]

aten = torch.ops.aten


@dataclass(frozen=True)
class Window:
    """A slice of a signal.

    Attributes:
        node: the slice, or the signal itself.
        bounds: first and one past the last element along each axis.
        steps: between elements.
    """

    node: fx.Node
    bounds: tuple[tuple[int, int], ...]
    steps: tuple[int, ...]


@dataclass(frozen=True)
class Reading:
    """All that is read of a signal.

    Attributes:
        windows: the slices, or the signal itself.
        shift: by how much it is rotated along each axis before that.
        nodes: rotations and slices on the way to the windows.
    """

    windows: tuple[Window, ...]
    shift: tuple[int, ...]
    nodes: tuple[fx.Node, ...]

    @property
    def hull(self) -> tuple[tuple[int, int], ...]:
        """The smallest range along each axis that contains all windows."""
        axes = range(len(self.shift))
        return tuple(
            (min(w.bounds[a][0] for w in self.windows), max(w.bounds[a][1] for w in self.windows)) for a in axes
        )


def find_reading(root: fx.Node, sizes: Sequence[int]) -> Reading:
    """What is read of ``root``, whose last axes have ``sizes``, below rotations, slices and ``real``.

    Raises:
        Declined: nothing is, or the values are complex.
    """
    axes = len(sizes)
    shift = (0,) * axes
    passed: list[fx.Node] = []
    node = root
    while len(node.users) == 1:
        (user,) = node.users
        step = (0,) * axes if user.target is aten.real.default else _shift(user, axes)
        if step is None:
            break
        shift = tuple(a + b for a, b in zip(shift, step, strict=True))
        passed.append(user)
        node = user
    windows: list[Window] = []
    _visit(Window(node, tuple((0, n) for n in sizes), (1,) * axes), windows, passed)
    for window in windows:
        if window.node.meta["val"].is_complex():
            raise Declined(f"the complex result {window.node} is used, not only its real part")
        if any(begin >= end for begin, end in window.bounds):
            raise Declined(f"{window.node} is empty")
    return Reading(tuple(windows), shift, tuple(n for n in passed if all(n is not w.node for w in windows)))


def _shift(node: fx.Node, axes: int) -> tuple[int, ...] | None:
    return circular_shift(node, axes) if node.op == "call_function" else None


def _visit(window: Window, windows: list[Window], passed: list[fx.Node]) -> None:
    parts = [_part(window, user) for user in window.node.users]
    known = [part for part in parts if part is not None]
    if not parts or len(known) < len(parts) or any(step != 1 for step in window.steps):
        windows.append(window)
        return
    if window.node not in passed:
        passed.append(window.node)
    for part in known:
        _visit(part, windows, passed)


def _part(window: Window, user: fx.Node) -> Window | None:
    """``user`` as a window of the same signal; ``None`` when it is anything but a slice."""
    if user.target is aten.real.default:
        return Window(user, window.bounds, window.steps)
    if user.target not in (aten.slice.Tensor, aten.narrow.default):
        return None
    axes, rank = len(window.bounds), len(shape_of(window.node))
    call = call_arguments(user)
    axis = int(call["dim"]) % rank - (rank - axes)
    if axis < 0:
        return None
    begin, end = window.bounds[axis]
    length = end - begin
    start = known_int(call["start"]) if call["start"] is not None else 0
    step = 1
    if user.target is aten.narrow.default:
        count = known_int(call["length"])
        stop = None if start is None or count is None else start % length + count
    else:
        stop = known_int(call["end"]) if call["end"] is not None else length
        step = known_int(call["step"]) or 1
    if start is None or stop is None:
        return None
    first, last, _ = slice(start, stop).indices(length)
    bounds = tuple((begin + first, begin + last) if a == axis else b for a, b in enumerate(window.bounds))
    return Window(user, bounds, tuple(step if a == axis else s for a, s in enumerate(window.steps)))
