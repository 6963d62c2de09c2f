"""Plain differentiable functions that passes put into graphs; tracing inlines them when a graph is lowered."""

from __future__ import annotations

from tzwc.ops.convolution import (
    direct_convolution,
    fft_convolution,
    fft_size,
    good_size,
    kernel_spectrum,
    normalize_padding,
)
from tzwc.ops.hyperzzw import hyperzzw_convolution, hyperzzw_dot, hyperzzw_gate

__all__ = [
    "direct_convolution",
    "fft_convolution",
    "fft_size",
    "good_size",
    "hyperzzw_convolution",
    "hyperzzw_dot",
    "hyperzzw_gate",
    "kernel_spectrum",
    "normalize_padding",
]
