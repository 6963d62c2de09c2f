"""Weight gradients by PyTorch's forward convolution, with the gradient of the output as the kernel.

oneDNN's depthwise weight gradient is slow above three taps, but its forward convolution is fast for kernels of any
length on an input that is padded in advance. The gradient of ``K`` taps is a convolution with ``K`` outputs:
:mod:`tzwc.ops.conv.gradients_as_convolutions`. Where every channel has a filter of its own, each sample is convolved by
itself and samples are summed in the end; as channels of one grouped convolution they would leave the depthwise kernels.

(Measured with one thread of an AVX-512 CPU at batch 8, 64 channels, length 784, in ms, against ``native``: 9 taps
2.1 / 4.2, 31 taps 2.6 / 12, 127 taps 4.9 / 72.)
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial

from torch import Tensor

from tzwc.ops.conv.algorithm import Algorithm, dtype_objection
from tzwc.ops.conv.algorithms.aten import CHANNELS_LAST, PREPADDED
from tzwc.ops.conv.gradients_as_convolutions import by_forward_form, forward_form
from tzwc.ops.conv.problem import Problem

__all__ = ["SWAPPED", "SWAPPED_CHANNELS_LAST"]


def _objection(problem: Problem) -> str | None:
    if (reason := dtype_objection(problem)) is not None:
        return reason
    if problem.direction != "weight_gradient":
        return "it is a way to compute weight gradients"
    return None


def _apart(problem: Problem) -> Problem:
    """The same with a kernel for each sample, where that is possible."""
    return problem.with_(per_sample=True) if problem.is_depthwise else problem


def _gradient(layout: Algorithm, problem: Problem, a: Tensor, b: Tensor) -> Tensor:
    found = by_forward_form(_apart(problem), layout.prepare, layout.run, a, b)
    return found.sum(0).unsqueeze(1) if problem.is_depthwise and not problem.per_sample else found


def _work(layout: Algorithm, problem: Problem) -> Mapping[str, float]:
    form = forward_form(_apart(problem))
    work = dict(layout.work(form))
    summed = float(form.batch * form.out_channels * math.prod(form.out)) if problem.is_depthwise else 0.0
    return work | {"calls": work["calls"] + 2.0, "moved": work["moved"] + summed}


def _make(name: str, summary: str, layout: Algorithm) -> Algorithm:
    return Algorithm(
        name=name,
        summary=summary,
        objection=_objection,
        prepare=layout.prepare,
        run=layout.run,
        work=partial(_work, layout),
        exact=True,
        gradient=partial(_gradient, layout),
    )


SWAPPED = _make("swapped", "weight gradient as a forward convolution", PREPADDED)
SWAPPED_CHANNELS_LAST = _make(
    "swapped_channels_last", "weight gradient as a channels-last forward convolution", CHANNELS_LAST
)
