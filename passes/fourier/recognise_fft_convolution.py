"""Recognise convolutions that a program computes by Fourier transforms of its own.

``irfft(rfft(x, n=N) · rfft(k, n=N), n=N)[…, a:b]``, in one axis or more, is a circular convolution of ``N`` points of
which a part is read. Where :mod:`tzwc.passes.fourier.circular` proves that no wrapped term is in that part, it is a
linear one, ``y[t] = Σ_j k[j] · x[t - j]``, and becomes a call that the passes behind this one understand. Read are:

- ``rfft``/``irfft`` and ``fft``/``ifft(…).real``, also ``2`` and ``n``, over the last axes, and any ``norm``, with real
  factors between them (:mod:`tzwc.passes.fourier.fourier_calls`);
- padding by ``n``, ``pad`` or zeros concatenated, ``flip``, ``roll``, ``conj`` (:mod:`tzwc.passes.fourier.signals`);
- products, ``matmul`` and ``einsum`` over channels, broadcast kernels (:mod:`tzwc.passes.fourier.spectra`);
- slices, rotations and several parts of one result (:mod:`tzwc.passes.fourier.windows`).

**What is inserted.** A program that transforms is at home with transforms: it gets ``kernel_spectrum`` and
``fft_convolution`` with the smallest good number of points, unless :func:`tzwc.autotune.choose` finds that a direct
convolution is faster. Only then is it a padded ``aten.conv1d`` (``conv2d``, ``conv3d``), whose layout
``select_convolution`` chooses and which ``fuse_hyperzzw`` reads if its taps are a product. So no convolution with
thousands of taps is ever left to a direct algorithm, whichever passes follow. The options ``convolution``, ``tune`` and
``exact`` are those of ``select_convolution``; what the program transforms by itself may stay so with ``exact=True``.

**Contract.** Values and gradients are those of the program within the rounding of a transform: an element differs by at
most a small multiple of ``eps · log2(N) · ‖x‖₂ · ‖k‖₂`` over the channels that are summed. One NaN or Inf of a channel
spreads over all of that channel's output in the program. In the result it may do so, or stay within the reach of the
taps and what is read; where a direct convolution would show it, it is always seen.

Convolutions that wrap around on purpose, or by mistake, are kept as they are, as is ``irfft`` without ``n`` where ``N``
is odd: it returns ``N - 1`` points of another signal.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import fx

from tzwc.autotune import Choice
from tzwc.ir.graph import replace_node, tensor_value
from tzwc.ops.conv import Problem, find_algorithm
from tzwc.passes.convolution.convolution_choice import choose_algorithm
from tzwc.passes.fourier.circular import linear_part
from tzwc.passes.fourier.fourier_calls import INVERSE, Declined, mentions_transform, read_transform
from tzwc.passes.fourier.fourier_convolution import Emitter, FourierConvolution
from tzwc.passes.fourier.signals import Signal
from tzwc.passes.fourier.spectra import Spectrum, SpectrumReader
from tzwc.passes.fourier.windows import Reading, find_reading
from tzwc.passes.shared.sizes import static_nodes
from tzwc.rewrite.pass_manager import Pass, PassContext
from tzwc.rewrite.rules import AliasFacts, erase_if_dead

__all__ = ["RECOGNISE_FFT_CONVOLUTION"]

aten = torch.ops.aten
NAME = "recognise_fft_convolution"


@dataclass(frozen=True)
class _Plan:
    """A rewrite that is legal by itself.

    Attributes:
        root: the inverse transform.
        what: the convolution.
        problem: its sizes.
        reading: what is read of it.
        spectrum: what it was read from.
        transforms: whether it stays a product of spectra.
        choice: what was asked, and the answer; ``None`` where there was none to ask.
        begin: the element of the circular convolution, after rotations, at which the linear one begins.
    """

    root: fx.Node
    what: FourierConvolution
    problem: Problem | None
    reading: Reading
    spectrum: Spectrum
    transforms: bool
    choice: Choice | None
    begin: tuple[int, ...]


def _order(signals: Sequence[Signal], static: set[fx.Node]) -> tuple[Signal, Signal]:
    """``(x, taps)``; the roles are interchangeable, and go by what makes the cheaper program."""

    def kernel_first(s: Signal) -> tuple[bool, ...]:
        other = signals[1] if s is signals[0] else signals[0]
        fewer = sum(a is not None for a in s.lead) - sum(a is not None for a in other.lead)
        return (
            s.source in static and other.source not in static,
            fewer < 0,
            s.source.target is aten.mul.Tensor and other.source.target is not aten.mul.Tensor,
            min(s.signs) < min(other.signs),
            math.prod(s.lengths) < math.prod(other.lengths),
        )

    first, second = signals
    return (second, first) if kernel_first(first) > kernel_first(second) else (first, second)


def _check_tensors(root: fx.Node, signals: Sequence[Signal]) -> None:
    result = tensor_value(root)
    assert result is not None
    for signal in signals:
        value = tensor_value(signal.source)
        if value is None or value.dtype not in (torch.float32, torch.float64):
            raise Declined(f"{signal.source} is not float32 or float64")
        if value.dtype.to_complex() != result.dtype.to_complex():
            raise Declined(f"{signal.source} is {value.dtype}, and the result {result.dtype}")
        if 0 in value.shape:
            raise Declined(f"{signal.source} is empty")
    if signals[0].source is signals[1].source:
        raise Declined(f"both factors are transforms of {signals[0].source}")


def _plan(root: fx.Node, facts: AliasFacts, static: set[fx.Node], context: PassContext) -> _Plan:
    """What the inverse transform ``root`` computes.

    Raises:
        Declined: not a linear convolution, or not provably so.
    """
    inverse = read_transform(root)
    reader = SpectrumReader()
    spectrum = reader.read(inverse.source)
    axes = len(inverse.sizes)
    if len(spectrum.signals) != 2:
        raise Declined(f"{inverse.source} is the spectrum of {spectrum.signals[0].source} alone, not a product")
    if inverse.sizes != spectrum.sizes:
        why = ", since it is given no number of points" if spectrum.sizes[-1] % 2 else ""
        raise Declined(f"{root} makes {list(inverse.sizes)} points of transforms of {list(spectrum.sizes)}{why}")
    if spectrum.half and not inverse.half:
        raise Declined(f"{root} takes half of a spectrum for a whole one")
    if spectrum.layout[-axes:] != tuple(range(-axes, 0)):
        raise Declined(f"{root} does not transform the axes of the signals back")
    _check_tensors(root, spectrum.signals)
    layout = spectrum.layout[:-axes]
    owned = {*spectrum.signals[0].lead, *spectrum.signals[1].lead}
    if any(label not in owned for label in layout if label is not None):
        raise Declined(f"{inverse.source} repeats the product along an axis")
    reading = find_reading(root, inverse.sizes)
    covered = [root, *spectrum.nodes, *reading.nodes, *(w.node for w in reading.windows)]
    covered += [n for s in spectrum.signals for n in (*s.nodes, s.source)]
    reads = sorted({a for n in covered for a in (n, *n.all_input_nodes)})
    written = next((n for n in reads if facts.is_written(n)), None)
    if written is not None:
        raise Declined(f"{written} shares memory that the program writes to")

    x, taps = _order(spectrum.signals, static)
    parts = []
    for a, points in enumerate(inverse.sizes):
        shift = x.offsets[a] + taps.offsets[a]
        shift -= x.lengths[a] - 1 if x.signs[a] < 0 else 0
        shift += taps.lengths[a] - 1 if taps.signs[a] > 0 else 0
        begin, end = (bound - reading.shift[a] for bound in reading.hull[a])
        parts.append(linear_part(x.lengths[a], taps.lengths[a], points, shift, begin, end))
    scale = replace(spectrum, power=spectrum.power + inverse.power).scale
    numbers = torch.finfo(root.meta["val"].dtype)
    if spectrum.factor != 0 and not numbers.tiny <= abs(scale) <= numbers.max:
        raise Declined(f"the factor {scale} in front of the convolution is no normal number of {numbers.dtype}")
    what = FourierConvolution(
        x=x,
        taps=taps,
        x_flips=tuple(a for a in range(axes) if x.signs[a] < 0),
        tap_flips=tuple(a for a in range(axes) if taps.signs[a] > 0),
        parts=tuple(parts),
        layout=layout,
        summed=spectrum.summed,
        sizes=reader.sizes,
        scale=scale,
    )
    if len(what.symbolic) > 1:
        raise Declined(f"{len(what.symbolic)} sizes of {root} are not known at capture; one at most is expected")
    problem, choice = what.problem(static=taps.source in static), None
    transforms = True
    if problem is not None:
        choice = choose_algorithm(problem, context)
        transforms = not find_algorithm(choice.algorithm).exact
    elif context.options.get("convolution") == "native":
        raise Declined("convolution='native' was asked for, and torch has no direct form of this broadcast")
    return _Plan(root, what, problem, reading, spectrum, transforms, choice, tuple(b for b, _ in reading.hull))


def _outside(plan: _Plan, plans: Sequence[_Plan], static: set[fx.Node]) -> str | None:
    """Why another use of a spectrum forbids the rewrite: its transform would be computed twice."""
    covered = {n: p for p in plans for n in (p.root, *p.spectrum.nodes)}
    x = set(plan.what.x.nodes)
    for node in plan.spectrum.nodes:
        if node in static:
            continue
        for user in node.users:
            if user not in covered:
                return f"the spectrum {node} is used by {user} as well"
            if covered[user] is not plan and user not in plan.spectrum.nodes and node in x and plan.transforms:
                return f"the spectrum {node} of the input is shared with another convolution"
    return None


def _rewrite(plan: _Plan, emitter: Emitter, context: PassContext) -> None:
    emitter.like = plan.root
    what = plan.what
    with plan.root.graph.inserting_before(plan.root):
        result = emitter.fft(what) if plan.transforms else emitter.direct(what)
        for window in plan.reading.windows:
            bounds = [(b - o, e - o) for (b, e), o in zip(window.bounds, plan.begin, strict=True)]
            new = emitter.windowed(result, bounds, window.steps)
            if window.node.meta["val"].is_contiguous() and not new.meta["val"].is_contiguous():
                new = emitter.call(aten.contiguous.default, new)  # for a view that counts on it
            replace_node(window.node, new)
            emitter.moved[window.node] = new
            erase_if_dead(window.node)
    points, taps, lengths, size = (
        "×".join(map(str, sizes)) for sizes in (plan.spectrum.sizes, what.kernel, what.lengths, what.size)
    )
    choice, chosen = plan.choice, f"fft of {size}" if plan.transforms else "direct"
    numbers: dict[str, float | str] = {}
    if choice is not None:
        numbers = {"choice": choice.algorithm, "source": choice.source, **choice.costs()}
    why = "" if choice is None else f": {choice.why}"
    context.remark(
        "applied",
        "convolution",
        f"transforms of {points} points -> {chosen}, {taps} taps on {lengths}{why}",
        (plan.root,),
        **numbers,
    )


def _run(module: fx.GraphModule, context: PassContext) -> None:
    graph = module.graph
    facts = AliasFacts(graph)
    static = static_nodes(graph, context.static_slots)
    plans: list[_Plan] = []

    def decline(root: fx.Node, reason: str) -> None:
        context.remark("declined", "convolution", reason, (root,))

    for node in graph.nodes:
        if node.target in INVERSE and node.users and mentions_transform(node.args[0]):
            try:
                plans.append(_plan(node, facts, static, context))
            except Declined as reason:
                decline(node, str(reason))
    plans = [plan for plan in plans if context.admits("convolution", (plan.root,))]
    while True:  # a plan given up may leave a spectrum in use that another one counted on
        objections = {plan.root: _outside(plan, plans, static) for plan in plans}
        for root, objection in objections.items():
            if objection is not None:
                decline(root, objection)
        if all(objection is None for objection in objections.values()):
            break
        plans = [plan for plan in plans if objections[plan.root] is None]
    emitter = Emitter(graph, NAME)
    for plan in plans:
        _rewrite(plan, emitter, context)


RECOGNISE_FFT_CONVOLUTION = Pass(
    NAME, "Recognise convolutions written with Fourier transforms, and compute them by the best algorithm.", _run
)
