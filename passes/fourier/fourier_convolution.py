"""What a convolution written with transforms computes, and how to insert a call that computes it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx
from torch.fx.node import Argument

from tzwc.ir.graph import hint, insert_call, tensor_value
from tzwc.ops import fft_convolution, fft_size, kernel_spectrum
from tzwc.ops.conv import Problem
from tzwc.passes.fourier.circular import LinearPart
from tzwc.passes.fourier.fourier_calls import Declined
from tzwc.passes.fourier.signals import Label, Signal
from tzwc.passes.shared.sizes import Size, shape_argument, shape_of

__all__ = ["Emitter", "FourierConvolution"]

aten = torch.ops.aten


@dataclass(frozen=True)
class FourierConvolution:
    """``result = scale · conv(x, taps)``, the axes named by labels.

    Attributes:
        x, taps: the two signals; ``x`` runs forwards, see ``x_flips``.
        x_flips: transformed axes along which the input is reversed first.
        tap_flips: those along which the taps are reversed, to run as ``torch.nn.functional`` has it.
        parts: the linear convolution along each axis.
        layout: labels of the result's leading axes.
        summed: labels summed over.
        sizes: of each label.
        scale: a factor.
    """

    x: Signal
    taps: Signal
    x_flips: tuple[int, ...]
    tap_flips: tuple[int, ...]
    parts: tuple[LinearPart, ...]
    layout: tuple[Label, ...]
    summed: frozenset[int]
    sizes: dict[int, Size]
    scale: float

    @property
    def axes(self) -> int:
        return len(self.parts)

    @property
    def roles(self) -> tuple[list[int], list[int], list[int], list[int]]:
        """Labels of samples, groups, outputs of a group, and inputs of a group, as for ``torch.nn.functional``."""
        x, taps = set(self.x.lead), set(self.taps.lead)
        kept = [label for label in self.layout if label is not None]
        samples = [label for label in kept if label in x and label not in taps]
        groups = [label for label in kept if label in x and label in taps]
        outputs = [label for label in kept if label in taps and label not in x]
        return samples, groups, outputs, sorted(self.summed)

    def count(self, labels: Sequence[int]) -> Size:
        """How many combinations there are; a ``SymInt`` if one of the sizes is not known."""
        total: Size = 1
        for label in labels:
            total = total * self.sizes[label]
        return total

    @property
    def symbolic(self) -> list[int]:
        """Labels whose sizes are not known at capture."""
        labels = {*self.layout, *self.summed, *self.x.lead, *self.taps.lead}
        return [label for label in labels if label is not None and not isinstance(self.sizes[label], int)]

    @property
    def lengths(self) -> tuple[int, ...]:
        """Sizes of the input that counts."""
        return tuple(part.x[1] - part.x[0] for part in self.parts)

    @property
    def kernel(self) -> tuple[int, ...]:
        """The taps that count."""
        return tuple(part.taps[1] - part.taps[0] for part in self.parts)

    @property
    def padding(self) -> tuple[tuple[int, int], ...]:
        """Zeros around the input that counts."""
        return tuple(part.padding for part in self.parts)

    @property
    def size(self) -> tuple[int, ...]:
        """Lengths of the smallest good transforms."""
        axes = zip(self.lengths, self.kernel, self.padding, strict=True)
        return tuple(fft_size(length, taps, zeros) for length, taps, zeros in axes)

    def problem(self, *, static: bool) -> Problem | None:
        """The convolution as ``torch`` has it; ``None`` where ``torch`` has none.

        Args:
            static: whether the taps do not depend on the input.

        Raises:
            Declined: channels are summed with one kernel for each sample.
        """
        _, grouped, written, _ = self.roles
        per_sample = not isinstance(self.count(grouped), int)
        if self.summed and per_sample:
            raise Declined("channels are summed with one kernel for each sample")
        if self.axes > 3 or not isinstance(self.count(written), int) or (per_sample and written):
            return None
        samples, groups, outputs, inputs = (hint(self.count(labels)) for labels in self.roles)
        per_sample = per_sample and samples == 1  # several values with one kernel: as many samples of one convolution
        value = tensor_value(self.x.source)
        assert value is not None
        return Problem(
            batch=groups if per_sample else samples,
            in_channels=1 if per_sample else groups * inputs,
            out_channels=1 if per_sample else groups * outputs,
            groups=1 if per_sample else groups,
            lengths=self.lengths,
            kernel=self.kernel,
            padding=self.padding,
            per_sample=per_sample,
            static_kernel=static,
            dtype=value.dtype,
            device=value.device.type,
        )


class Emitter:
    """Inserts calls at the graph's insertion point; equal ones once.

    Args:
        graph: the graph.
        name: of the pass.

    Attributes:
        moved: what stands for a node that was replaced, and that a description made before may still name.
        like: whose origin new calls inherit.
    """

    def __init__(self, graph: fx.Graph, name: str) -> None:
        self._graph = graph
        self._made_by = f"{name}/convolution"
        self._made: dict[str, fx.Node] = {}
        self.moved: dict[fx.Node, fx.Node] = {}
        self.like: fx.Node

    def call(self, target: Any, *args: Argument, **kwargs: Argument) -> fx.Node:
        key = f"{id(target)} {args!r} {kwargs!r}"
        if key not in self._made:
            self._made[key] = insert_call(self._graph, target, args, kwargs, like=self.like, made_by=self._made_by)
        return self._made[key]

    def _reshape(self, node: fx.Node, shape: Sequence[Size]) -> fx.Node:
        if len(shape) == len(shape_of(node)) and all(
            hint(a) == hint(b) for a, b in zip(shape, shape_of(node), strict=True)
        ):
            return node
        sizes = shape_argument(self._graph, shape, [])
        assert sizes is not None  # one symbolic size at most
        return self.call(aten.reshape.default, node, sizes)

    def _permute(self, node: fx.Node, order: Sequence[int]) -> fx.Node:
        order = list(order)
        return node if order == sorted(order) else self.call(aten.permute.default, node, order)

    def _flip(self, node: fx.Node, axes: int, which: Sequence[int]) -> fx.Node:
        first = len(shape_of(node)) - axes
        return self.call(aten.flip.default, node, [first + a for a in which]) if which else node

    def _slice(self, node: fx.Node, axes: int, axis: int, bounds: tuple[int, int], step: int = 1) -> fx.Node:
        at = len(shape_of(node)) - axes + axis
        if bounds == (0, shape_of(node)[at]) and step == 1:
            return node
        return self.call(aten.slice.Tensor, node, at, *bounds, *([step] if step != 1 else []))

    def windowed(self, node: fx.Node, bounds: Sequence[tuple[int, int]], steps: Sequence[int]) -> fx.Node:
        """A slice of the last axes of ``node``."""
        for axis, (window, step) in enumerate(zip(bounds, steps, strict=True)):
            node = self._slice(node, len(bounds), axis, window, step)
        return node

    def _arranged(
        self, node: fx.Node, lead: Sequence[Label], order: Sequence[Label], what: FourierConvolution
    ) -> fx.Node:
        """``node`` with its leading axes in the given order, of size 1 where it has none."""
        present = [label for label in order if label is not None and label in lead]
        places = [lead.index(label) for label in present]
        places += [i for i, label in enumerate(lead) if label is None]
        node = self._permute(node, [*places, *range(len(lead), len(lead) + what.axes)])
        spatial = shape_of(node)[len(lead) :]
        sizes = [what.sizes[label] if label is not None and label in lead else 1 for label in order]
        return self._reshape(node, [*sizes, *spatial])

    def _operands(self, what: FourierConvolution) -> tuple[fx.Node, fx.Node]:
        """Input and taps, cut to what counts; the taps as they are in the program's order."""
        source, kernel = (self.moved.get(s.source, s.source) for s in (what.x, what.taps))
        x = self._flip(self.windowed(source, what.x.parts, (1,) * what.axes), what.axes, what.x_flips)
        x = self.windowed(x, [part.x for part in what.parts], (1,) * what.axes)
        bounds = []
        for axis, (part, (start, stop)) in enumerate(zip(what.parts, what.taps.parts, strict=True)):
            first, last = part.taps
            kept = (stop - last, stop - first) if axis in what.tap_flips else (start + first, start + last)
            bounds.append(kept)
        taps = self.windowed(kernel, bounds, (1,) * what.axes)
        return x, taps if what.scale == 1.0 else self.call(aten.mul.Tensor, taps, what.scale)

    def _framed(self, node: fx.Node, zeros: Sequence[tuple[int, int]]) -> fx.Node:
        flat = [n for pair in reversed(zeros) for n in pair]
        return self.call(aten.constant_pad_nd.default, node, flat) if any(flat) else node

    def fft(self, what: FourierConvolution) -> fx.Node:
        """By :func:`tzwc.ops.fft_convolution`, with the smallest good transform."""
        x, taps = self._operands(what)
        dense = bool(what.summed)
        if dense:
            x, taps = self._as_batch(x, what), self._as_filters(taps, what)
        else:
            x = self._arranged(x, what.x.lead, what.layout, what)
            taps = self._arranged(taps, what.taps.lead, what.layout, what)
        reverse = not what.tap_flips
        if 0 < len(what.tap_flips) < what.axes:
            taps, reverse = self._flip(taps, what.axes, what.tap_flips), True
        size = what.size
        spectrum = self.call(kernel_spectrum, taps, size, **({} if reverse else {"reverse": False}))
        common: dict[str, Any] = {"kernel_size": what.kernel, "size": size, "padding": what.padding}
        if dense:
            common["groups"] = hint(what.count(what.roles[1]))
        result = self.call(fft_convolution, x, spectrum, None, **common)
        result = self._from_channels(result, what) if dense else result
        return self._framed(result, [part.outside for part in what.parts])

    def direct(self, what: FourierConvolution) -> fx.Node:
        """By ``aten.conv1d``, ``conv2d`` or ``conv3d``, on an input that is padded first."""
        x, taps = self._operands(what)
        x = self._as_batch(self._framed(x, [part.padding for part in what.parts]), what)
        taps = self._flip(self._as_filters(taps, what), what.axes, what.tap_flips)
        _, groups, _, _ = what.roles
        count = what.count(groups)  # not known at capture where there is one kernel a sample
        number = count if isinstance(count, int) else self.call(aten.sym_size.int, taps, 0)
        target = (aten.conv1d.default, aten.conv2d.default, aten.conv3d.default)[what.axes - 1]
        ones, zeros = [1] * what.axes, [0] * what.axes
        result = self.call(target, x, taps, None, ones, zeros, ones, number)
        return self._framed(self._from_channels(result, what), [part.outside for part in what.parts])

    def _as_batch(self, x: fx.Node, what: FourierConvolution) -> fx.Node:
        samples, groups, _, inputs = what.roles
        x = self._arranged(x, what.x.lead, [*samples, *groups, *inputs], what)
        spatial = shape_of(x)[len(shape_of(x)) - what.axes :]
        return self._reshape(x, [what.count(samples), what.count([*groups, *inputs]), *spatial])

    def _as_filters(self, taps: fx.Node, what: FourierConvolution) -> fx.Node:
        _, groups, outputs, inputs = what.roles
        taps = self._arranged(taps, what.taps.lead, [*groups, *outputs, *inputs], what)
        spatial = shape_of(taps)[len(shape_of(taps)) - what.axes :]
        return self._reshape(taps, [what.count([*groups, *outputs]), what.count(inputs), *spatial])

    def _from_channels(self, y: fx.Node, what: FourierConvolution) -> fx.Node:
        samples, groups, outputs, _ = what.roles
        order = [*samples, *groups, *outputs]
        spatial = shape_of(y)[2:]
        y = self._reshape(y, [*(what.sizes[label] for label in order), *spatial])
        return self._arranged(y, order, what.layout, what)
