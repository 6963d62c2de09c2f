"""Real Fourier transforms as operators of their own, differentiable to any order.

``torch.fft`` would do, but for one thing: in torch 2.13 its shape functions for CPU resize a tensor, and by that
replace a symbolic batch size with the number seen at capture. A graph with an FFT would be good for one batch size
only, without a word. These operators call ``torch.fft`` and have shape functions of their own. (Inductor calls FFTs as
external kernels in either case.)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tzwc.ops.derivatives import register_derivatives

__all__ = ["irfftn", "rfftn"]

_LIBRARY = torch.library.Library("tzwc", "FRAGMENT")  # type: ignore[no-untyped-call]
_LIBRARY.define("rfftn(Tensor x, int[] size) -> Tensor", tags=(torch.Tag.pt2_compliant_tag,))  # type: ignore[no-untyped-call]
_LIBRARY.define("irfftn(Tensor spectrum, int[] size) -> Tensor", tags=(torch.Tag.pt2_compliant_tag,))  # type: ignore[no-untyped-call]


def rfftn(x: Tensor, size: Sequence[int]) -> Tensor:
    """Real transform over the last ``len(size)`` axes, zero-padded or cut to ``size``.

    Args:
        x: float32 or float64 `(..., *S)`.
        size: transform lengths.

    Returns:
        complex `(..., *size[:-1], size[-1] // 2 + 1)`, contiguous.
    """
    if x.device.type == "cuda":
        # The library would clear a padded tensor and copy into it. Out here, the generated code that computes ``x``
        # (the product of activations and hyper-kernel) writes both the values and the zeros.
        x = _padded(x, size)
    result: Tensor = torch.ops.tzwc.rfftn(x, list(size))
    return result


def irfftn(spectrum: Tensor, size: Sequence[int]) -> Tensor:
    """The inverse of :func:`rfftn`: complex `(..., *size[:-1], size[-1] // 2 + 1)` to real `(..., *size)`."""
    result: Tensor = torch.ops.tzwc.irfftn(spectrum, list(size))
    return result


def _padded(x: Tensor, size: Sequence[int]) -> Tensor:
    """``x`` with zeros up to ``size`` behind its last axes, where these are shorter and known."""
    lengths = x.shape[x.dim() - len(size) :]
    missing = [max(n - have, 0) if isinstance(have, int) else 0 for n, have in zip(size, lengths, strict=True)]
    return F.pad(x, [margin for n in reversed(missing) for margin in (0, n)]) if any(missing) else x


def _axes(size: Sequence[int]) -> tuple[int, ...]:
    return tuple(range(-len(size), 0))


def _rfftn(x: Tensor, size: list[int]) -> Tensor:
    result: Tensor = torch.fft.rfftn(x.contiguous(), s=size, dim=_axes(size)).contiguous()
    return result


def _irfftn(spectrum: Tensor, size: list[int]) -> Tensor:
    result: Tensor = torch.fft.irfftn(spectrum.contiguous(), s=size, dim=_axes(size)).contiguous()
    return result


def _rfftn_shape(x: Tensor, size: list[int]) -> Tensor:
    return x.new_empty((*x.shape[: -len(size)], *size[:-1], size[-1] // 2 + 1), dtype=x.dtype.to_complex())


def _irfftn_shape(spectrum: Tensor, size: list[int]) -> Tensor:
    return spectrum.new_empty((*spectrum.shape[: -len(size)], *size), dtype=spectrum.dtype.to_real())


def _weights(like: Tensor, length: int, edge: float, inside: float) -> Tensor:
    """One number for each frequency of the last axis: ``edge`` for those that have no mirror image."""
    weights = torch.full((length // 2 + 1,), inside, dtype=like.dtype.to_real(), device=like.device)
    weights[0] = edge
    if length % 2 == 0:
        weights[-1] = edge
    return weights


def _count(size: Sequence[int]) -> int:
    total = 1
    for n in size:
        total *= n
    return total


def _rfftn_setup(ctx: Any, inputs: tuple[Tensor, list[int]], output: Tensor) -> None:  # noqa: ARG001
    x, ctx.size = inputs
    ctx.lengths = x.shape[-len(ctx.size) :]


def _rfftn_backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
    # The adjoint sums Re(g_k · exp(2πi kt/n)) over the stored frequencies only, whereas irfftn counts every frequency
    # that has a mirror image twice and divides by n.
    weights = _weights(grad, ctx.size[-1], float(_count(ctx.size)), 0.5 * _count(ctx.size))
    result = irfftn(grad * weights, ctx.size)
    for axis, length in zip(_axes(ctx.size), ctx.lengths, strict=True):
        kept = min(length, result.shape[axis])
        result = result.narrow(axis, 0, kept)
        if kept < length:  # what the transform cut off has no influence
            zeros = result.new_zeros([*result.shape[:axis], length - kept, *result.shape[axis:][1:]])
            result = torch.cat([result, zeros], axis)
    return result, None


def _irfftn_setup(ctx: Any, inputs: tuple[Tensor, list[int]], output: Tensor) -> None:  # noqa: ARG001
    ctx.size = inputs[1]


def _irfftn_backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
    spectrum = rfftn(grad, ctx.size)
    return spectrum * _weights(spectrum, ctx.size[-1], 1.0 / _count(ctx.size), 2.0 / _count(ctx.size)), None


for _name, _kernel, _shape, _setup, _backward in (
    ("rfftn", _rfftn, _rfftn_shape, _rfftn_setup, _rfftn_backward),
    ("irfftn", _irfftn, _irfftn_shape, _irfftn_setup, _irfftn_backward),
):
    _LIBRARY.impl(_name, _kernel, "CompositeExplicitAutograd")  # type: ignore[no-untyped-call]
    torch.library.register_fake(f"tzwc::{_name}", _shape, lib=_LIBRARY)
    register_derivatives(_LIBRARY, _name, _kernel, _backward, _setup)
