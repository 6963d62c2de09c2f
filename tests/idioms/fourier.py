"""Convolutions by fast Fourier transform, written by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.fft import irfft, rfft

from tests.idioms.idiom import WHOLE, Manner, inputs, positions, seeded

__all__ = ["MANNERS"]

LENGTH = 15
"""Of the signals; odd, so that ``irfft`` without a length gets it wrong."""

TAPS = 9


class Convolution(nn.Module):
    """A depthwise convolution with a generated kernel ``(c taps)``, by a given formula.

    Args:
        formula: from the signal ``(b c n)`` and the kernel to the result.
        taps: length of the kernel.
    """

    grid: Tensor

    def __init__(self, formula: Callable[[Tensor, Tensor], Tensor], taps: int = TAPS, channels: int = 4) -> None:
        super().__init__()
        self.formula = formula
        self.net = nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Linear(8, channels))
        self.skip = nn.Parameter(torch.randn(channels, 1))
        self.register_buffer("grid", positions(taps).unsqueeze(-1))

    def forward(self, x: Tensor) -> Tensor:
        return self.formula(x, self.net(self.grid).t()) + self.skip * x


def causal_2l(x: Tensor, kernel: Tensor) -> Any:
    length = x.shape[-1]
    n = 2 * length
    product = rfft(x, n=n) * rfft(kernel, n=n)
    return irfft(product, n=n)[..., :length]


def full_then_cropped(x: Tensor, kernel: Tensor) -> Any:
    n = x.shape[-1] + kernel.shape[-1] - 1
    full = irfft(rfft(x, n=n) * rfft(kernel, n=n), n=n)
    start = (kernel.shape[-1] - 1) // 2
    return full[..., start : start + x.shape[-1]]


def flipped(x: Tensor, kernel: Tensor) -> Any:
    n = x.shape[-1] + kernel.shape[-1] - 1
    spectrum = rfft(kernel.flip(-1), n=n)
    return irfft(rfft(x, n=n) * spectrum, n=n)[..., kernel.shape[-1] // 2 :][..., : x.shape[-1]]


def conjugated(x: Tensor, kernel: Tensor) -> Any:
    pad = kernel.shape[-1] - 1
    padded = F.pad(x, (pad, pad))
    n = padded.shape[-1]
    correlation = irfft(rfft(padded, n=n) * rfft(kernel, n=n).conj(), n=n)
    return correlation[..., : x.shape[-1]]


def orthonormal(x: Tensor, kernel: Tensor) -> Any:
    n = 2 * x.shape[-1]
    product = rfft(x, n=n, norm="ortho") * rfft(kernel, n=n, norm="ortho")
    return irfft(product, n=n, norm="ortho")[..., : x.shape[-1]]  # smaller by √n than a convolution, and kept so


def forward_normalised(x: Tensor, kernel: Tensor) -> Any:
    n = 2 * x.shape[-1]
    spectrum = rfft(kernel, n=n) / n
    return irfft(rfft(x, n=n) * spectrum, n=n, norm="forward")[..., : x.shape[-1]]


def circular(x: Tensor, kernel: Tensor) -> Any:
    n = x.shape[-1]
    return irfft(rfft(x) * rfft(kernel, n=n), n=n)


def without_length(x: Tensor, kernel: Tensor) -> Tensor:
    product = rfft(x) * rfft(kernel, n=x.shape[-1])
    short = irfft(product)  # one sample too few for an odd length
    return F.pad(short, (0, x.shape[-1] - short.shape[-1]))


def two_sided(x: Tensor, kernel: Tensor) -> Any:
    length = x.shape[-1]
    forwards, backwards = kernel, kernel.flip(-1)
    n = 2 * length
    spectrum = rfft(F.pad(forwards, (0, n - TAPS)) + F.pad(backwards, (n - TAPS, 0)), n=n)
    return irfft(rfft(x, n=n) * spectrum, n=n)[..., :length]


def complex_transform(x: Tensor, kernel: Tensor) -> Any:
    n = 2 * x.shape[-1]
    product = torch.fft.fft(x, n=n, dim=-1) * torch.fft.fft(kernel, n=n, dim=-1)
    return torch.fft.ifft(product, dim=-1).real[..., : x.shape[-1]]


class Images(nn.Module):
    """A two-dimensional convolution with a kernel as large as the image, by ``rfft2``."""

    def __init__(self, channels: int = 3, size: int = 7) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.randn(channels, size, size) / size)

    def forward(self, x: Tensor) -> Any:
        size = (x.shape[-2] + self.kernel.shape[-2] - 1, x.shape[-1] + self.kernel.shape[-1] - 1)
        product = torch.fft.rfft2(x, s=size) * torch.fft.rfft2(self.kernel, s=size)
        full = torch.fft.irfft2(product, s=size)
        top, left = (k // 2 for k in self.kernel.shape[-2:])
        return full[..., top : top + x.shape[-2], left : left + x.shape[-1]]


class FromOneChannel(nn.Module):
    """A causal correlation of one channel with a kernel for each result, padded before the transforms."""

    def __init__(self, channels: int = 4, size: int = LENGTH) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.randn(channels, 1, size) / size)

    def forward(self, x: Tensor) -> Any:
        length, taps = x.shape[-1], self.kernel.shape[-1]
        spectrum = rfft(F.pad(self.kernel, (0, length - 1))).conj()
        product = rfft(F.pad(x, (taps - 1, 0))).unsqueeze(1) * spectrum.unsqueeze(0)
        return irfft(product.sum(2), n=length + taps - 1)[..., :length]


def _manner(name: str, summary: str, formula: Any, taps: int = TAPS) -> Manner:
    return Manner(f"fft-{name}", summary, seeded(lambda: Convolution(formula, taps)), inputs(4, LENGTH), WHOLE)


MANNERS = (
    _manner("causal-2l", "convolves by rfft padded to 2L and takes the first L samples", causal_2l, LENGTH),
    _manner("full-cropped", "convolves by rfft padded to L + K − 1 and takes the middle", full_then_cropped),
    _manner("flipped", "flips the kernel before its transform", flipped),
    _manner("conjugated", "multiplies with the conjugated spectrum, a correlation", conjugated),
    _manner("ortho", "uses norm='ortho' on all three transforms, which scales the result", orthonormal),
    _manner("forward", "divides the spectrum by n and uses norm='forward' on the way back", forward_normalised),
    _manner("circular", "does not pad, a circular convolution", circular),
    _manner("without-length", "calls irfft without n at an odd length, which is wrong and is kept", without_length),
    _manner("two-sided", "adds a causal and an anti-causal kernel before the transform", two_sided),
    _manner("complex", "uses fft and ifft and takes the real part", complex_transform, LENGTH),
    Manner("fft-one-channel", "pads before rfft, sums one channel", seeded(FromOneChannel), inputs(1, LENGTH), WHOLE),
    Manner("fft-images", "convolves images by rfft2 and crops", seeded(Images), inputs(3, 6, 8), WHOLE),
)
