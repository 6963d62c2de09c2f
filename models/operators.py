"""The HyperZ·Z·W operator in its three forms, as plain differentiable functions.

``Z`` are activations, ``K`` is a hyper-kernel written by a slow network, and ``W = Z ⊙ K`` is the context-dependent
weight: a kernel of its own for every sample and channel. :func:`dot_product` and :func:`convolution` take ``Z`` and
``K``; where several values meet the same weight, form ``W`` once with :func:`context_weight` and use
:func:`matrix_product` or :func:`convolve`. Source: arXiv 2401.17948.
"""

from __future__ import annotations

from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

from tzwc.errors import InvalidArgumentError
from tzwc.models.validation import closest

__all__ = ["context_weight", "convolution", "convolve", "dot_product", "gate", "matrix_product"]


def context_weight(z: Tensor, kernel: Tensor) -> Tensor:
    """``W = Z ⊙ K``: the weight that depends on its context.

    Args:
        z: activations ``(b c …)``.
        kernel: hyper-kernel ``(1 c …)``, or anything that broadcasts against ``z``.
    """
    return z * kernel


def matrix_product(weight: Tensor, value: Tensor) -> Tensor:
    """``Y[b,c,i,j] = Σ_k W[b,c,i,k] V[b,c,k,j]``: a matrix product over the two grid axes, per sample and channel."""
    return weight @ value


def convolve(weight: Tensor, value: Tensor, padding: str = "same") -> Tensor:
    """Convolve every channel of every sample with its own weight.

    ``"same"`` is the correlation of deep learning with zero padding: with ``n`` taps along an axis, tap
    ``(n − 1) // 2`` is aligned with the output position, so that ``Y[i] = Σ_t W[t] V[i + t − (n − 1) // 2]``. This is
    the alignment of PyTorch's ``padding="same"``; for an even ``n`` the longer half lies to the right.

    ``"causal"`` is the true convolution ``Y[i] = Σ_{j ≤ i} W[j] V[i − j]`` along every axis. It has to be one: ``W``
    depends on the activations at its own position, and a correlation would let ``W[n − 1]``, the future, act on
    ``Y[0]``.

    Args:
        weight: ``(b c n)`` or ``(b c n m)``.
        value: ``(b c l)`` or ``(b c h w)``, the same rank, batch, channels, dtype and device as ``weight``.
        padding: ``"same"`` or ``"causal"``.

    Returns:
        A tensor of the shape of ``value``.

    Raises:
        InvalidArgumentError: unknown padding, or other than one or two grid axes.
    """
    dims = value.ndim - 2
    if dims not in (1, 2) or weight.ndim != value.ndim:
        raise InvalidArgumentError(
            f"weight {tuple(weight.shape)} and value {tuple(value.shape)}: expected both (b c l) or both (b c h w)"
        )
    taps = weight.shape[2:]
    if padding == "causal":
        weight = weight.flip(tuple(range(2, value.ndim)))
        margins = [(n - 1, 0) for n in taps]
    elif padding == "same":
        margins = [((n - 1) // 2, n // 2) for n in taps]
    else:
        raise InvalidArgumentError(f"padding = {padding!r}: expected {closest(padding, ('same', 'causal'))}")
    # Padded beforehand: it admits even kernels and is faster than the padding of a long native convolution.
    # F.pad counts axes from the last one.
    padded = F.pad(value, [margin for pair in reversed(margins) for margin in pair])
    batch, channels = value.shape[:2]
    conv = F.conv1d if dims == 1 else F.conv2d
    result = conv(
        rearrange(padded, "b c ... -> 1 (b c) ..."),
        rearrange(weight, "b c ... -> (b c) 1 ..."),
        groups=batch * channels,
    )
    return rearrange(result, "1 (b c) ... -> b c ...", c=channels)


def dot_product(z: Tensor, kernel: Tensor, value: Tensor) -> Tensor:
    """``Y = (Z ⊙ K) · V`` as matrices over the last two axes, per sample and channel.

    Args:
        z, kernel: ``(b c n n)`` and ``(1 c n n)``.
        value: ``(b c n n)``.
    """
    return matrix_product(context_weight(z, kernel), value)


def convolution(z: Tensor, kernel: Tensor, value: Tensor, padding: str = "same") -> Tensor:
    """``Y = V ∗ (Z ⊙ K)`` per sample and channel, of the size of ``V``; see :func:`convolve` for ``padding``.

    Args:
        z, kernel: ``(b c l)`` and ``(1 c l)``, or ``(b c h w)`` and ``(1 c h w)``: full context.
        value: the shape of ``z``.
    """
    return convolve(context_weight(z, kernel), value, padding)


def gate(kernel: Tensor, z: Tensor) -> Tensor:
    """``E(K, z) = z ⊙ K ⊙ z``: two elementwise products; shapes broadcast."""
    return z * kernel * z
