"""Convolution by one FFT with broadcast spectra, and what says how to pad, as plain differentiable functions.

Everywhere, as in ``torch.nn.functional``, "convolution" means correlation with zero padding. With kernel taps ``w``,
input ``x`` of length ``S``, padding ``(l, r)``::

    y[t] = Σ_j w[j] · x[t + j - l],        0 ≤ t < S + l + r - K + 1

This is the linear convolution of ``x`` with the reversed taps, read from index ``K - 1 - l`` on. A circular one of
length ``n`` gives the same numbers there as soon as no wrapped term reaches an index that is read: :func:`fft_size`.

Contract of the FFT path, which differs from the direct one in two ways:

- Accuracy is relative to the peak. An element's absolute error is bounded by a small multiple of
  ``eps · log2(n) · ‖x‖₂ · ‖w‖₂`` over one channel, whatever the size of that element (``eps`` of float64 for float64
  inputs and of float32 for all others).
- One NaN or Inf in a channel spreads over all of that channel's output.

float16 and bfloat16 are transformed in float32 and rounded once at the end.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from tzwc.errors import InvalidArgumentError
from tzwc.ops.fft import irfftn, rfftn

__all__ = [
    "Padding",
    "fft_convolution",
    "fft_size",
    "good_size",
    "kernel_spectrum",
    "normalize_padding",
]

Padding = Sequence[tuple[int, int]]
"""Zeros before and after, for each spatial axis."""

_NARROW = (torch.float16, torch.bfloat16)


def normalize_padding(padding: str | Sequence[int], kernel_size: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """``padding`` as torch convolutions take it, as zeros before and after each axis.

    Args:
        padding: ``"same"`` (the odd zero of an even kernel goes to the end), ``"circular"`` (the same numbers, for
            ``padding_mode="circular"``), ``"valid"``, ``"causal"`` (all zeros in front), one number for all axes, or
            one for each.
        kernel_size: taps along each axis; with a dilation, elements from the first tap to the last, both counted.

    Raises:
        InvalidArgumentError: an unknown word, a negative number, or as many numbers as there are axes was expected.
    """
    if padding in ("same", "circular"):
        return tuple(((k - 1) // 2, k // 2) for k in kernel_size)
    if padding == "causal":
        return tuple((k - 1, 0) for k in kernel_size)
    if padding == "valid":
        return tuple((0, 0) for _ in kernel_size)
    if isinstance(padding, str):
        raise InvalidArgumentError(
            f"padding={padding!r} is unknown; choose 'same', 'causal', 'valid', 'circular' or numbers"
        )
    sizes = list(padding) * len(kernel_size) if len(padding) == 1 else list(padding)
    if len(sizes) != len(kernel_size) or min(sizes) < 0:
        raise InvalidArgumentError(f"padding={padding!r} must be {len(kernel_size)} numbers, none negative")
    return tuple((p, p) for p in sizes)


def good_size(minimum: int, *, even: bool = True) -> int:
    """The smallest ``n ≥ minimum`` whose prime factors are 2, 3 and 5 (and, when ``even``, which 2 divides).

    FFT libraries have code for these factors; an even length is what a real transform halves.
    """
    n = max(minimum, 2 if even else 1)
    while True:
        rest = n
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1 and not (even and n % 2):
            return n
        n += 1


def fft_size(length: int, kernel: int, padding: tuple[int, int]) -> int:
    """A good transform length for one axis: just long enough that no wrapped term is read.

    For ``padding="same"`` it is ``max(length + kernel // 2, kernel)``, rounded up by :func:`good_size`.
    """
    return good_size(_minimal_size(length, kernel, padding))


def _minimal_size(length: int, kernel: int, padding: tuple[int, int]) -> int:
    full = length + kernel - 1
    first = max(kernel - 1 - padding[0], 0)
    last = min(length + padding[1] - 1, full - 1)
    return max(length, kernel, full - first, last + 1)


def kernel_spectrum(kernel: Tensor, size: Sequence[int], *, reverse: bool = True) -> Tensor:
    """The spectrum of a kernel's taps, to be handed to :func:`fft_convolution`.

    A separate function so that the spectrum of a kernel which does not depend on the input is computed once.

    Args:
        kernel: real taps, `(..., *K)` with as many spatial axes as ``size`` has numbers.
        size: transform length for each spatial axis, from :func:`fft_size`; at least ``K``.
        reverse: ``True`` for correlation as in ``torch.nn.functional``; ``False`` for convolution in the
            mathematical sense, where the taps are not reversed.

    Returns:
        complex `(..., *size[:-1], size[-1] // 2 + 1)`; complex64, or complex128 for float64.

    Raises:
        InvalidArgumentError: a transform is shorter than the kernel.
    """
    axes = tuple(range(-len(size), 0))
    if any(n < kernel.shape[axis] for n, axis in zip(size, axes, strict=True)):
        raise InvalidArgumentError(f"size={tuple(size)} is shorter than the kernel {tuple(kernel.shape[-len(size) :])}")
    taps = kernel.float() if kernel.dtype in _NARROW else kernel
    if reverse:
        taps = taps.flip(axes)
    return rfftn(taps, size)


def fft_convolution(
    x: Tensor,
    spectrum: Tensor,
    bias: Tensor | None = None,
    *,
    kernel_size: Sequence[int],
    size: Sequence[int],
    padding: Padding,
    stride: Sequence[int] | None = None,
    groups: int | None = None,
) -> Tensor:
    """Convolution of ``x`` with the kernel whose spectrum is given.

    Args:
        x: real `(..., C, *S)`.
        spectrum: :func:`kernel_spectrum` of the kernel with the same ``size``. With ``groups=None`` it is multiplied
            element by element with the spectrum of ``x``, so it may be `(C, …)` for a depthwise convolution, or
            `(B, C, …)` for one kernel a sample. With a number of groups it is `(O, C / groups, …)`, as for
            ``F.conv1d``, and products are summed over a group's input channels.
        bias: `(O,)`, added to the result, or ``None``.
        kernel_size: taps along each axis.
        size: transform lengths.
        padding: zeros before and after each axis.
        stride: keep every ``stride``-th element of each axis; all are computed.
        groups: see ``spectrum``.

    Returns:
        `(..., O, *out)` with ``out = (S + l + r - K) // stride + 1``, in the dtype of ``x``. See the module for the
        accuracy and NaN contract.

    Raises:
        InvalidArgumentError: a transform is too short for this input, kernel and padding.
    """
    axes = tuple(range(-len(size), 0))
    lengths = tuple(x.shape[axis] for axis in axes)
    for axis, (length, taps, pad, n) in enumerate(zip(lengths, kernel_size, padding, size, strict=True)):
        if (
            n < length
            or n < length + taps - 1 - max(taps - 1 - pad[0], 0)
            or n < min(length + pad[1], length + taps - 1)
        ):
            raise InvalidArgumentError(f"size[{axis}]={n} wraps around; use fft_size({length}, {taps}, {pad})")
    values = x.float() if x.dtype in _NARROW else x
    transform = rfftn(values, size)
    product = transform * spectrum if groups is None else _grouped_product(transform, spectrum, groups, len(size))
    full = irfftn(product, size)
    for axis, length, taps, pad, step in zip(
        axes, lengths, kernel_size, padding, stride or (1,) * len(size), strict=True
    ):
        full = _keep(full, axis, length, taps, pad, step)
    result = full.to(x.dtype)
    return result if bias is None else result + bias.reshape(-1, *(1,) * len(size))


def _grouped_product(transform: Tensor, spectrum: Tensor, groups: int, axes: int) -> Tensor:
    """``Y[b, g, o, f] = Σ_i X[b, g, i, f] · W[g, o, i, f]`` over all frequencies ``f``."""
    lead, frequencies = transform.shape[: -axes - 1], transform.shape[-axes:]
    x = transform.reshape(*lead, groups, -1, frequencies.numel())
    w = spectrum.reshape(groups, -1, spectrum.shape[1], frequencies.numel())
    y = torch.einsum("...gif,goif->...gof", x, w)
    return y.reshape(*lead, spectrum.shape[0], *frequencies)


def _keep(full: Tensor, axis: int, length: int, taps: int, pad: tuple[int, int], step: int) -> Tensor:
    """The part of a full linear convolution that zero padding ``pad`` asks for, every ``step``-th element."""
    first, last = taps - 1 - pad[0], length + pad[1] - 1
    begin, end = max(first, 0), min(last, length + taps - 2)
    kept = full.narrow(axis, begin, end - begin + 1)
    if begin > first or end < last:  # padded by more than a kernel: the kernel sees zeros only
        kept = F.pad(kept, (0, 0) * (-axis - 1) + (begin - first, last - end))
    if step > 1:
        kept = kept.movedim(axis, -1)[..., ::step].movedim(-1, axis)
    return kept
