"""Plain differentiable functions that passes put into graphs; tracing inlines them when a graph is lowered."""

from __future__ import annotations

from tzwc.ops.conv.fft_convolution import fft_convolution, fft_size, good_size, kernel_spectrum, normalize_padding
from tzwc.ops.conv.operator import convolution, prepare_kernel, prepared_convolution
from tzwc.ops.hyperzzw import hyperzzw_convolution, hyperzzw_dot, hyperzzw_gate

__all__ = [
    "convolution",
    "fft_convolution",
    "fft_size",
    "good_size",
    "hyperzzw_convolution",
    "hyperzzw_dot",
    "hyperzzw_gate",
    "kernel_spectrum",
    "normalize_padding",
    "prepare_kernel",
    "prepared_convolution",
]
