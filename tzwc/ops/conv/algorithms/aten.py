"""The convolutions of PyTorch: as they are, channels-last, and either on an input that is padded already.

Their gradients are those of ``aten.convolution_backward`` in the same layout.

(One more layout was tried: a 1-D convolution as a contiguous 2-D one of height one. It is what ATen makes of every 1-D
convolution by itself, so it is no candidate.)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from tzwc.ops.conv.algorithm import Algorithm, dtype_objection
from tzwc.ops.conv.arranged import Arranged
from tzwc.ops.conv.generated_code import code_objection
from tzwc.ops.conv.padding import is_padded, pad, padded_lengths, unpad
from tzwc.ops.conv.problem import Problem

__all__ = ["CHANNELS_LAST", "CHANNELS_LAST_PREPADDED", "NATIVE", "PREPADDED", "pads_by_itself", "taps"]

LONGEST_FAST_TAPS = 13
"""oneDNN's depthwise kernels leave their fast path above this when they pad by themselves (3.12, AVX-512)."""

LONGEST_FAST_WEIGHT_TAPS = 3
"""Its depthwise weight gradient leaves the fast path above this."""

_FEWEST_PER_SURPLUS = 8
"""Outputs along an axis for each one that is computed and dropped."""

_FORMATS = (torch.channels_last, torch.channels_last, torch.channels_last_3d)


@dataclass(frozen=True)
class _Layout:
    """How PyTorch is called: with the padding written out or not, contiguous or channels-last."""

    pads_first: bool
    channels_last: bool

    def writes_padding(self, problem: Problem) -> bool:
        if self.pads_first or (self.channels_last and code_objection(problem) is not None):
            return True
        return not (pads_by_itself(problem) or _pads_too_much(problem))

    def padding(self, problem: Problem) -> tuple[int, ...]:
        """What is left for PyTorch to pad."""
        return tuple(0 if self.writes_padding(problem) else max(pair) for pair in problem.padding)

    def surplus(self, problem: Problem) -> tuple[tuple[int, int], ...]:
        """Outputs more than are wanted at either end of each axis, since PyTorch pads both ends alike."""
        if self.writes_padding(problem):
            return ((0, 0),) * problem.axes
        return tuple((max(after - before, 0), max(before - after, 0)) for before, after in problem.padding)

    def cropped(self, problem: Problem, y: Tensor) -> Tensor:
        """The outputs that are wanted."""
        surplus = self.surplus(problem)
        if not any(map(any, surplus)):
            return y
        for axis, ((front, _), size) in enumerate(zip(surplus, problem.out, strict=True)):
            y = y.narrow(axis - problem.axes, front, size)
        return y.clone(memory_format=torch.contiguous_format)

    def uncropped(self, problem: Problem, gradient: Tensor) -> Tensor:
        """The adjoint of :meth:`cropped`."""
        flat = [zeros for pair in reversed(self.surplus(problem)) for zeros in pair]
        return F.pad(gradient, flat) if any(flat) else gradient

    def arrange(self, problem: Problem, values: Tensor) -> Tensor:
        """A batch of images, or a kernel, in the layout; in 1-D with a height of one.

        The kernel as well: grouped convolutions are several times slower when the two differ (oneDNN 3.12).
        """
        if not self.channels_last:  # what is channels-last already must not lead there either
            return values.contiguous() if code_objection(problem) is not None else values
        image = values.unsqueeze(2) if problem.axes == 1 else values
        if torch.is_grad_enabled():
            arranged: Tensor = Arranged.apply(image, _FORMATS[problem.axes - 1])  # type: ignore[no-untyped-call]
            return arranged
        return image.contiguous(memory_format=_FORMATS[problem.axes - 1])

    def restore(self, problem: Problem, values: Tensor) -> Tensor:
        """The inverse of :meth:`arrange`."""
        if not self.channels_last:
            return values
        plain = values.squeeze(2) if problem.axes == 1 else values
        return plain if problem.channels_last else plain.contiguous()

    def steps(self, problem: Problem) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
        """Stride, padding and dilation for PyTorch."""
        if self.channels_last and problem.axes == 1:
            return (1, *problem.stride), (0, *self.padding(problem)), (1, *problem.dilation)
        return problem.stride, self.padding(problem), problem.dilation


def pads_by_itself(problem: Problem) -> bool:
    """Whether ``torch.nn.functional`` can be told the padding."""
    return problem.padding_mode == "zeros" and all(a == b >= 0 for a, b in problem.padding)


def _pads_too_much(problem: Problem) -> bool:
    """Whether ``torch.nn.functional`` shall pad both ends by the larger number, for a few outputs that are dropped.

    An even kernel with ``"same"`` padding has one zero more behind than in front. On a GPU, where memory decides, one
    output more costs less than a padded copy of the input. On a CPU the copy is what is fast.
    """
    if problem.device != "cuda" or problem.padding_mode != "zeros" or min(map(min, problem.padding)) < 0:
        return False
    uneven = [
        (abs(before - after), step, size)
        for (before, after), step, size in zip(problem.padding, problem.stride, problem.out, strict=True)
        if before != after
    ]
    return all(step == 1 and surplus * _FEWEST_PER_SURPLUS <= size for surplus, step, size in uneven)


def taps(problem: Problem, kernel: Tensor) -> Tensor:
    """The kernel as correlation takes it."""
    return kernel.flip(tuple(range(2, 2 + problem.axes))) if problem.flip else kernel


def _rows(problem: Problem, values: Tensor) -> Tensor:
    """Images of a per-sample convolution: every sample and channel is a group of one image."""
    return values.reshape(1, values.shape[0] * values.shape[1], *values.shape[2:]) if problem.per_sample else values


def _filters(problem: Problem, kernel: Tensor) -> Tensor:
    if not problem.per_sample:
        return kernel
    return kernel.reshape(kernel.shape[0] * kernel.shape[1], 1, *problem.kernel)


def _groups(problem: Problem, values: Tensor) -> int:
    return values.shape[0] * values.shape[1] if problem.per_sample else problem.groups


def _run(layout: _Layout, problem: Problem, x: Tensor, kernel: Tensor) -> Tensor:
    image = layout.arrange(problem, _rows(problem, pad(problem, x) if layout.writes_padding(problem) else x))
    weight = _filters(problem, kernel)
    weight = layout.arrange(problem, weight)
    function = (F.conv1d, F.conv2d, F.conv3d)[image.dim() - 3]
    stride, padding, dilation = layout.steps(problem)
    y = function(image, weight, None, stride, padding, dilation, _groups(problem, x))
    y = layout.cropped(problem, layout.restore(problem, y))
    return y.reshape(*x.shape[:2], *problem.out) if problem.per_sample else y


def _gradient(layout: _Layout, problem: Problem, a: Tensor, b: Tensor) -> Tensor:
    wants_input = problem.direction == "input_gradient"
    written = layout.writes_padding(problem)
    gradient = layout.arrange(problem, _rows(problem, layout.uncropped(problem, a if wants_input else b)))
    stride, padding, dilation = layout.steps(problem)
    if wants_input:
        weight = layout.arrange(problem, _filters(problem, taps(problem, b)))
        lengths = padded_lengths(problem) if written else problem.lengths
        channels = a.shape[0] * a.shape[1] if problem.per_sample else problem.in_channels
        # Only the sizes of an operand whose gradient is asked for are read.
        sizes = (gradient.shape[0], channels, *(1,) * (gradient.dim() - 2 - problem.axes), *lengths)
        image = gradient.new_zeros(()).expand(sizes)
    else:
        image = layout.arrange(problem, _rows(problem, pad(problem, a) if written else a))
        filters = (
            (a.shape[0] * a.shape[1], 1)
            if problem.per_sample
            else (problem.out_channels, problem.in_channels // problem.groups)
        )
        weight = image.new_zeros(()).expand(*filters, *(1,) * (gradient.dim() - 2 - problem.axes), *problem.kernel)
    found = torch.ops.aten.convolution_backward(
        gradient,
        image,
        weight,
        None,
        stride,
        padding,
        dilation,
        False,
        (0,) * len(stride),
        _groups(problem, a),
        (wants_input, not wants_input, False),
    )
    if wants_input:
        result = layout.restore(problem, found[0])
        result = result.reshape(*a.shape[:2], *result.shape[2:]) if problem.per_sample else result
        return unpad(problem, result).contiguous() if written else result
    result = found[1].squeeze(2) if found[1].dim() > 2 + problem.axes else found[1]
    result = result.reshape(*a.shape[:2], *problem.kernel) if problem.per_sample else result
    return taps(problem, result).contiguous()


# --- what the running time is made of -----------------------------------------------------------------------------


def _kind(problem: Problem) -> str:
    if problem.is_depthwise:
        return f"depthwise_{problem.axes}d"
    return f"{'dense' if problem.groups == 1 else 'grouped'}_{problem.axes}d"


def _elements(problem: Problem, lengths: tuple[int, ...]) -> float:
    return float(problem.batch * problem.in_channels * math.prod(lengths))


def _work(layout: _Layout, problem: Problem) -> Mapping[str, float]:
    written = layout.writes_padding(problem) and is_padded(problem)
    source = _elements(problem, padded_lengths(problem) if written else problem.lengths)
    result = float(problem.batch * problem.out_channels * math.prod(problem.out))
    fast = LONGEST_FAST_WEIGHT_TAPS if problem.direction == "weight_gradient" else LONGEST_FAST_TAPS
    slow = problem.is_depthwise and max(problem.kernel) > fast
    if problem.direction != "weight_gradient":
        slow = slow and not written and any(any(pair) for pair in problem.padding)
    where = "channels_last_" if layout.channels_last else ""
    flops = f"{'slow_' if slow and not layout.channels_last else ''}{where}{_kind(problem)}_{problem.direction}_flops"
    copies = (source if written else 0.0) + (source + result if layout.channels_last else 0.0)
    return {
        "calls": 1.0 + written + 2.0 * layout.channels_last,
        flops: problem.flops,
        "moved": source + result + copies,
    }


# --- registration -------------------------------------------------------------------------------------------------

_NATIVE = _Layout(pads_first=False, channels_last=False)


def _native_objection(problem: Problem) -> str | None:
    return dtype_objection(problem)


def _channels_last_objection(problem: Problem) -> str | None:
    if (reason := dtype_objection(problem)) is not None:
        return reason
    return code_objection(problem) if problem.direction == "input_gradient" else None


def _prepadded_objection(problem: Problem) -> str | None:
    if (reason := dtype_objection(problem)) is not None:
        return reason
    if not is_padded(problem):
        return "there is nothing to pad, so it is native"
    if _NATIVE.writes_padding(problem):
        return f"native pads in advance as well: {problem.padding_mode} {problem.padding} is not symmetric zeros"
    return None


def _both_objection(problem: Problem) -> str | None:
    reason = _channels_last_objection(problem) or _prepadded_objection(problem)
    if reason is None and code_objection(problem) is not None:
        return "channels_last pads in advance as well: oneDNN would write too much code for so many taps"
    return reason


def _make(name: str, summary: str, layout: _Layout, objection: Callable[[Problem], str | None]) -> Algorithm:
    return Algorithm(
        name=name,
        summary=summary,
        objection=objection,
        prepare=taps,
        run=partial(_run, layout),
        work=partial(_work, layout),
        exact=True,
        gradient=partial(_gradient, layout),
        narrow=True,
        skips_zeros=True,
    )


NATIVE = _make("native", "the convolution of PyTorch", _NATIVE, _native_objection)
PREPADDED = _make("prepadded", "PyTorch's, on an input padded in advance", _Layout(True, False), _prepadded_objection)
CHANNELS_LAST = _make("channels_last", "PyTorch's, channels-last", _Layout(False, True), _channels_last_objection)
CHANNELS_LAST_PREPADDED = _make(
    "channels_last_prepadded",
    "PyTorch's, padded in advance and channels-last",
    _Layout(True, True),
    _both_objection,
)
