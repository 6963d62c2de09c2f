"""Read an expression in the frequency domain as a product of the spectra of two real signals.

Products, sums over channels (``sum``, ``matmul``, ``einsum``), conjugates, real factors and changes of shape are
followed down to the forward transforms. Axes are followed by labels: those that a product brings together become one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import torch
from torch import fx
from torch.fx.node import Target

from tzwc.passes.fourier.fourier_calls import FORWARD, Declined, read_transform, real_constant
from tzwc.passes.fourier.signals import Label, Signal, locate
from tzwc.passes.normalize.reshapes import permutation
from tzwc.passes.shared.einsum_terms import einsum_terms
from tzwc.passes.shared.sizes import Size, same_size, shape_of
from tzwc.rewrite.patterns import call_arguments

__all__ = ["Spectrum", "SpectrumReader"]

aten = torch.ops.aten

_PERMUTATIONS = (
    aten.permute.default,
    aten.transpose.int,
    aten.swapaxes.default,
    aten.movedim.int,
    aten.mT.default,
    aten.t.default,
)


@dataclass(frozen=True)
class Spectrum:
    """``factor · n^power · Σ Π F(signal)``, with ``n`` the number of all points.

    Attributes:
        signals: one, or two that are multiplied.
        layout: a label for each axis of the tensor; -1 is the last transformed axis, -2 the one before it.
        summed: labels that are summed over.
        sizes: numbers of points.
        half: whether only the frequencies that a real signal needs are stored.
        factor, power: a real factor, exactly.
        nodes: the calls, outermost first, down to the forward transforms.
    """

    signals: tuple[Signal, ...]
    layout: tuple[Label, ...]
    summed: frozenset[int]
    sizes: tuple[int, ...]
    half: bool
    factor: Fraction
    power: Fraction
    nodes: tuple[fx.Node, ...]

    @property
    def scale(self) -> float:
        """The factor in front of the product of unnormalised spectra; one rounding, infinite where it is too large."""
        n = math.prod(self.sizes)
        whole = math.floor(self.power)
        try:
            exact = float(self.factor * Fraction(n) ** whole)
        except OverflowError:
            return math.inf if self.factor > 0 else -math.inf
        return exact if whole == self.power else exact * math.sqrt(n)

    def renamed(self, old: int, new: int) -> Spectrum:
        def names(labels: tuple[Label, ...]) -> tuple[Label, ...]:
            return tuple(new if label == old else label for label in labels)

        signals = tuple(replace(s, lead=names(s.lead)) for s in self.signals)
        summed = frozenset(new if label == old else label for label in self.summed)
        return replace(self, signals=signals, layout=names(self.layout), summed=summed)


class SpectrumReader:
    """Reads the spectra of one graph.

    Attributes:
        sizes: the size behind each label, possibly symbolic.
    """

    def __init__(self) -> None:
        self.sizes: dict[int, Size] = {}
        self._rules: dict[Target, Callable[[fx.Node], Spectrum]] = {
            aten._conj.default: self._conjugate,
            aten.conj.default: self._conjugate,
            aten.conj_physical.default: self._conjugate,
            aten.resolve_conj.default: self._same,
            aten.clone.default: self._same,
            aten.contiguous.default: self._same,
            aten.mul.Tensor: self._multiply,
            aten.div.Tensor: self._divide,
            aten.neg.default: self._negate,
            aten.reshape.default: self._reshape,
            aten.view.default: self._reshape,
            aten.unsqueeze.default: self._reshape,
            aten.squeeze.dim: self._reshape,
            aten.expand.default: self._expand,
            **dict.fromkeys(_PERMUTATIONS, self._permute),
            aten.adjoint.default: self._conjugate_transpose,
            aten.mH.default: self._conjugate_transpose,
            aten.sum.dim_IntList: self._sum,
            aten.matmul.default: self._matmul,
            aten.einsum.default: self._einsum,
        }

    def read(self, node: object) -> Spectrum:
        """``node`` as a spectrum.

        Raises:
            Declined: it is none, with the first reason found.
        """
        if not isinstance(node, fx.Node):
            raise Declined(f"{node!r} is no spectrum")
        if node.target in FORWARD:
            return self._transform(node)
        rule = self._rules.get(node.target)
        if rule is None:
            raise Declined(f"{node} is not made of transforms of real signals by products and sums")
        return rule(node)

    def _new(self, size: Size) -> Label:
        if isinstance(size, int) and size == 1:
            return None
        label = len(self.sizes)
        self.sizes[label] = size
        return label

    def _transform(self, node: fx.Node) -> Spectrum:
        call = read_transform(node)
        axes = len(call.sizes)
        if any(not isinstance(n, int) for n in shape_of(call.source)[-axes:]):
            raise Declined(f"the sizes {list(shape_of(call.source)[-axes:])} of {call.source} are not known at capture")
        signal = locate(call.source, call.sizes)
        outer = shape_of(call.source)[:-axes]
        lead = tuple(self._new(size) for size in outer)
        own = shape_of(signal.source)[:-axes]  # an `expand` that was looked through may have fewer or smaller axes
        inner = lead[len(lead) - len(own) :]
        inner = tuple(None if isinstance(n, int) and n == 1 else label for n, label in zip(own, inner, strict=True))
        layout = (*lead, *range(-axes, 0))
        signal = replace(signal, lead=inner)
        return Spectrum((signal,), layout, frozenset(), call.sizes, call.half, Fraction(1), call.power, (node,))

    def _inner(self, node: fx.Node, argument: object) -> Spectrum:
        inner = self.read(argument)
        return replace(inner, nodes=(node, *inner.nodes))

    def _same(self, node: fx.Node) -> Spectrum:
        return self._inner(node, node.args[0])

    def _conjugate(self, node: fx.Node) -> Spectrum:
        inner = self._same(node)
        return replace(inner, signals=tuple(s.conjugated() for s in inner.signals))

    def _negate(self, node: fx.Node) -> Spectrum:
        inner = self._same(node)
        return replace(inner, factor=-inner.factor)

    def _divide(self, node: fx.Node) -> Spectrum:
        number = real_constant(node.args[1])
        if not number:
            raise Declined(f"{node} divides by {node.args[1]}, which is no real constant other than 0")
        inner = self._same(node)
        return replace(inner, factor=inner.factor / number)

    def _multiply(self, node: fx.Node) -> Spectrum:
        for factor, other in (node.args[:2], node.args[1::-1]):
            number = real_constant(factor)
            if number is not None:
                inner = self._inner(node, other)
                return replace(inner, factor=inner.factor * number)
        a, b = (self.read(argument) for argument in node.args[:2])
        rank = max(len(a.layout), len(b.layout))
        layouts = [(None,) * (rank - len(s.layout)) + s.layout for s in (a, b)]
        return self._product(node, a, b, layouts[0], layouts[1])

    def _product(
        self, node: fx.Node, a: Spectrum, b: Spectrum, left: Sequence[Label], right: Sequence[Label]
    ) -> Spectrum:
        """The product of two spectra whose axes ``left[i]`` and ``right[i]`` meet."""
        if len(a.signals) + len(b.signals) > 2:
            raise Declined(f"{node} multiplies more than two spectra")
        if a.sizes != b.sizes:
            raise Declined(f"{node} multiplies transforms of {list(a.sizes)} and {list(b.sizes)} points")
        if a.half != b.half:
            raise Declined(f"{node} multiplies half of a spectrum and a whole one")
        layout: list[Label] = []
        for x, y in zip(left, right, strict=True):
            if x is None or y is None or x == y:
                layout.append(x if y is None else y)
            elif x < 0 or y < 0 or not same_size(self.sizes[x], self.sizes[y]):
                raise Declined(f"{node} multiplies axes that do not belong together")
            else:
                b = b.renamed(y, x)
                layout.append(x)
        if any(layout.count(axis) != 1 for axis in range(-len(a.sizes), 0)):
            raise Declined(f"{node} multiplies axes that do not belong together")
        signals = [replace(s, nodes=(*operand.nodes, *s.nodes)) for operand in (a, b) for s in operand.signals]
        return Spectrum(
            tuple(signals),
            tuple(layout),
            a.summed | b.summed,
            a.sizes,
            a.half,
            a.factor * b.factor,
            a.power + b.power,
            (node, *a.nodes, *b.nodes),
        )

    def _size(self, spectrum: Spectrum, label: int) -> Size:
        if label < 0:
            n = spectrum.sizes[label]
            return n // 2 + 1 if spectrum.half and label == -1 else n
        return self.sizes[label]

    def _reshape(self, node: fx.Node) -> Spectrum:
        inner = self._same(node)
        rest = [label for label in inner.layout if label is not None]
        layout: list[Label] = []
        for size in shape_of(node):
            if isinstance(size, int) and size == 1:
                layout.append(None)
            elif rest and same_size(size, self._size(inner, rest[0])):
                layout.append(rest.pop(0))
            else:
                raise Declined(f"{node} regroups the axes of a spectrum")
        return replace(inner, layout=tuple(layout))

    def _expand(self, node: fx.Node) -> Spectrum:
        inner = self._same(node)
        shape = shape_of(node)
        old = (None,) * (len(shape) - len(inner.layout)) + inner.layout
        layout = tuple(self._new(n) if label is None else label for n, label in zip(shape, old, strict=True))
        return replace(inner, layout=layout)

    def _permute(self, node: fx.Node) -> Spectrum:
        inner = self._same(node)
        return replace(inner, layout=tuple(inner.layout[d] for d in permutation(node)))

    def _conjugate_transpose(self, node: fx.Node) -> Spectrum:
        inner = self._permute(node)
        return replace(inner, signals=tuple(s.conjugated() for s in inner.signals))

    def _sum(self, node: fx.Node) -> Spectrum:
        call = call_arguments(node)
        inner = self._same(node)
        rank = len(inner.layout)
        axes = {int(d) % rank for d in call["dim"] or range(rank)}
        summed = {inner.layout[a] for a in axes} - {None}
        layout = [None if i in axes else a for i, a in enumerate(inner.layout) if call["keepdim"] or i not in axes]
        return self._summed(replace(inner, layout=tuple(layout)), summed)

    def _summed(self, spectrum: Spectrum, labels: set[int | None]) -> Spectrum:
        names = frozenset(label for label in labels if label is not None)
        if min(names, default=0) < 0:
            raise Declined(f"{spectrum.nodes[0]} sums over frequencies")
        if any(label not in s.lead for label in names for s in spectrum.signals) or len(spectrum.signals) != 2:
            raise Declined(f"{spectrum.nodes[0]} sums over an axis that the two spectra do not share")
        return replace(spectrum, summed=spectrum.summed | names)

    def _matmul(self, node: fx.Node) -> Spectrum:
        a, b = (self.read(argument) for argument in node.args[:2])
        if min(len(a.layout), len(b.layout)) < 2:
            raise Declined(f"{node} multiplies a vector")
        rank = max(len(a.layout), len(b.layout)) + 1  # …, row, sum, column
        left = (None,) * (rank - 1 - len(a.layout)) + (*a.layout, None)
        right = (None,) * (rank - 1 - len(b.layout)) + (*b.layout[:-2], None, *b.layout[-2:])
        product = self._product(node, a, b, left, right)
        *rest, summed, column = product.layout
        return self._summed(replace(product, layout=(*rest, column)), {summed})

    def _einsum(self, node: fx.Node) -> Spectrum:
        call = call_arguments(node)
        if len(call["tensors"]) != 2:
            raise Declined(f"{node} has not two operands")
        terms = einsum_terms(call["equation"], [len(shape_of(t)) for t in call["tensors"]])
        if terms is None:
            raise Declined(f"{node} takes a diagonal, or has an ellipsis for different numbers of axes")
        (first, second), output = terms
        a, b = (self.read(tensor) for tensor in call["tensors"])
        letters = [*first, *(c for c in second if c not in first)]
        left = [a.layout[first.index(c)] if c in first else None for c in letters]
        right = [b.layout[second.index(c)] if c in second else None for c in letters]
        product = self._product(node, a, b, left, right)
        found = dict(zip(letters, product.layout, strict=True))
        dropped = {found[c] for c in letters if c not in output}
        return self._summed(replace(product, layout=tuple(found[c] for c in output)), dropped)
