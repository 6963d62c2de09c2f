"""The HyperZ·Z·W operator in its three forms, after H. Zhang, arXiv 2401.17948 (2024).

``Z`` are activations, ``K`` is a hyper-kernel (written by a slow network), and ``Ŵ = Z ⊙ K`` the context-dependent
weights. All functions are symmetric in ``Z`` and ``K`` up to names, broadcast them against each other, and are plain
PyTorch: differentiable to any order, traceable, on any device and dtype.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tzwc.errors import InvalidArgumentError
from tzwc.ops.conv.operator import Padding, convolution

__all__ = ["hyperzzw_convolution", "hyperzzw_dot", "hyperzzw_gate"]


def hyperzzw_dot(z: Tensor, kernel: Tensor, *values: Tensor, product: Tensor | None = None) -> tuple[Tensor, ...]:
    """Dot-product form for several values that share one product: ``Y_i = (z ⊙ kernel) · V_i``.

    ``Y[b, c, i, j] = Σ_k z[b, c, i, k] · kernel[b, c, i, k] · V[b, c, k, j]``

    Args:
        z: activations, broadcastable with ``kernel`` to `(..., M, N)`.
        kernel: hyper-kernel; without a batch axis or with one of size 1 when all samples share it.
        values: one or more `(..., N, P)`, all of one shape.
        product: ``z ⊙ kernel`` where the program has computed it already for another use; it is taken as it is.

    Returns:
        One `(..., M, P)` for each value.

    Raises:
        InvalidArgumentError: no value, or values of different shapes.
    """
    if not values or any(v.shape != values[0].shape for v in values):
        raise InvalidArgumentError(f"values={[tuple(v.shape) for v in values]} must be at least one, all of one shape")
    weights = z * kernel if product is None else product
    return tuple(torch.matmul(weights, value) for value in values)


def hyperzzw_convolution(
    z: Tensor,
    kernel: Tensor,
    *values: Tensor,
    padding: Padding,
    reverse: bool = False,
    product: Tensor | None = None,
) -> tuple[Tensor, ...]:
    """Convolution form: every sample and channel of ``V_i`` is convolved with its own kernel ``W = z ⊙ kernel``.

    ``Y_i[b, c, t] = Σ_j W[b, c, j] · V_i[b, c, t + j - l]``, and with ``reverse`` the taps run backwards:
    ``W[b, c, K - 1 - j]``, which with ``padding=((K - 1, 0),)`` is the causal convolution in the mathematical sense.

    Args:
        z: activations, broadcastable with ``kernel`` to `(B, C, *K)`.
        kernel: hyper-kernel, usually `(1, C, *K)`.
        values: one or more `(B, C, *S)`, one, two or three spatial axes.
        padding: zeros before and after each spatial axis.
        reverse: reverse the taps.
        product: ``z ⊙ kernel`` where the program has computed it already for another use; it is taken as it is.

    Returns:
        One `(B, C, *out)` for each value, ``out = S + l + r - K + 1``.

    Raises:
        InvalidArgumentError: no value, or a value whose batch and channels are not those of the product.
    """
    weights = z * kernel if product is None else product
    lead = weights.shape[:2]
    if not values or any(v.shape[:2] != lead or v.dim() != weights.dim() for v in values):
        shapes = [tuple(v.shape) for v in values]
        raise InvalidArgumentError(f"values={shapes} must be at least one, with the leading sizes {tuple(lead)}")
    # oneDNN's depthwise kernels leave their fast path above 13 taps when they pad by themselves.
    algorithm = "prepadded" if all(a == b for a, b in padding) and any(a for a, _ in padding) else "native"
    return tuple(
        convolution(value, weights, padding=padding, flip=reverse, per_sample=True, algorithm=algorithm)
        for value in values
    )


def hyperzzw_gate(kernel: Tensor, z: Tensor) -> Tensor:
    """Two elementwise products: ``E(K, z) = z ⊙ K ⊙ z``.

    Evaluated as ``(z ⊙ K) ⊙ z``: it overflows or underflows only where ``(z ⊙ z) ⊙ K`` does as well.

    Args:
        kernel: hyper-kernel, broadcastable to ``z``.
        z: activations of any shape.

    Returns:
        A tensor of the broadcast shape.
    """
    return z * kernel * z
