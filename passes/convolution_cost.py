"""A plain cost model for one convolution: seconds for each way to compute it.

Rates were measured with two threads of an AVX-512 CPU, torch 2.13; on other CPUs the absolute times differ, while the
choice depends on their ratios only. The rates for CUDA are rough guesses, kept cautious by the margin.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from tzwc.ops import fft_size

__all__ = ["MARGIN", "Rates", "Workload", "choose", "costs", "rates_for"]

MARGIN = 1.5
"""A candidate must be this much faster than ``native`` by the model before it replaces it."""

LONGEST_FAST_TAPS = 13
"""oneDNN's depthwise kernels leave their fast path above this when they pad by themselves."""


@dataclass(frozen=True)
class Rates:
    """Speeds of one kind of device.

    Attributes:
        direct: FLOP/s of a depthwise convolution on its fast path.
        padded_by_itself: FLOP/s of one that left it.
        dense: FLOP/s of a convolution that sums over channels.
        channels_last: FLOP/s of a depthwise convolution in channels-last layout, for one axis and for two.
        fft: FLOP/s of real transforms, counted as `2.5 n log2 n`, over one axis and over more.
        memory: elements/s of an elementwise pass.
        complex_product: FLOP/s of a batched complex matrix product.
        call: seconds for one operator call.
    """

    direct: float
    padded_by_itself: float
    dense: float
    channels_last: tuple[float, float]
    fft: tuple[float, float]
    memory: float
    complex_product: float
    call: float


_CPU = Rates(60e9, 2.5e9, 60e9, (110e9, 200e9), (30e9, 13e9), 1.2e9, 15e9, 10e-6)
_CUDA = Rates(2e12, 2e12, 20e12, (2e12, 2e12), (1e12, 1e12), 2e11, 2e12, 5e-6)


def rates_for(device: str) -> Rates:
    """The rates for a device type: ``"cuda"``, or those of a CPU for all others."""
    return _CUDA if device == "cuda" else _CPU


@dataclass(frozen=True)
class Workload:
    """One convolution, with the sizes seen at capture.

    Attributes:
        device: device type.
        batch: samples times the number of values convolved with the same kernels.
        in_channels, out_channels, groups: as in ``torch.nn.Conv1d``. One kernel a sample counts as ``batch`` 1.
        lengths: input sizes of the spatial axes.
        kernel: taps along each axis.
        padding: zeros before and after each axis.
        stride: step along each axis.
        kernel_is_static: the kernel's spectrum can be computed once for many calls.
        pads_first: ``native`` pads in a step of its own, as :func:`tzwc.ops.direct_convolution` does.
    """

    device: str
    batch: int
    in_channels: int
    out_channels: int
    groups: int
    lengths: tuple[int, ...]
    kernel: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    stride: tuple[int, ...]
    kernel_is_static: bool
    pads_first: bool = False

    @property
    def size(self) -> tuple[int, ...]:
        """Transform lengths."""
        return tuple(fft_size(s, k, p) for s, k, p in zip(self.lengths, self.kernel, self.padding, strict=True))

    @property
    def out(self) -> tuple[int, ...]:
        """Output sizes of the spatial axes."""
        axes = zip(self.lengths, self.kernel, self.padding, self.stride, strict=True)
        return tuple((s + sum(p) - k) // step + 1 for s, k, p, step in axes)


def costs(work: Workload) -> dict[str, float]:
    """Predicted seconds by candidate: ``native``, ``prepadded``, ``channels_last`` and ``fft``, where they apply."""
    rates = rates_for(work.device)
    fan_in = work.in_channels // work.groups
    flops = 2.0 * work.batch * work.out_channels * fan_in * math.prod(work.kernel) * math.prod(work.out)
    elements = work.batch * work.in_channels * math.prod(work.lengths) + work.batch * work.out_channels * math.prod(
        work.out
    )
    depthwise = fan_in == 1
    pads = any(any(pair) for pair in work.padding)
    long = depthwise and max(work.kernel) > LONGEST_FAST_TAPS
    rate = rates.direct if depthwise else rates.dense
    prepadded = 2 * rates.call + flops / rate + elements / rates.memory
    result = {"native": prepadded if work.pads_first else rates.call + flops / rate + elements / rates.memory / 2}
    if long and pads and not work.pads_first and work.device == "cpu":
        result["native"] = rates.call + flops / rates.padded_by_itself
        result["prepadded"] = prepadded
    axes = len(work.kernel)
    if long and axes < 3 and work.device == "cpu":
        result["channels_last"] = 4 * rates.call + flops / rates.channels_last[axes - 1] + 1.5 * elements / rates.memory
    result["fft"] = _fft_cost(work, rates, fan_in)
    return result


def _fft_cost(work: Workload, rates: Rates, fan_in: int) -> float:
    size = work.size
    n = math.prod(size)
    one = 2.5 * n * max(math.log2(n), 1.0)
    inputs, outputs = work.batch * work.in_channels, work.batch * work.out_channels
    kernels = 0 if work.kernel_is_static else work.out_channels * fan_in
    transforms = (inputs + outputs + kernels) * one / rates.fft[len(size) > 1]
    product = (
        8.0 * outputs * fan_in * (n // 2) / rates.complex_product if fan_in > 1 else outputs * n / rates.memory / 2
    )
    moved = (inputs + outputs) * n / rates.memory / 2
    return 6 * rates.call + transforms + product + moved


def choose(predicted: Mapping[str, float]) -> str:
    """The cheapest candidate, or ``native`` unless that is slower by :data:`MARGIN`."""
    best = min(predicted, key=lambda name: predicted[name])
    return best if predicted[best] * MARGIN < predicted["native"] else "native"
