"""Layers that serve 1-D and 2-D grids alike: grid convolutions, standardisations and the recursive gated unit."""

from __future__ import annotations

import torch
from einops import pack, rearrange
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = [
    "EPS",
    "GroupedStandardisation",
    "RecursiveGatedUnit",
    "batch_standardise",
    "channel_dropout",
    "depthwise",
    "instance_standardise",
    "pointwise",
]

EPS = 1e-5
"""Added to the variance inside the root of every standardisation."""


def pointwise(
    dims: int, in_channels: int, out_channels: int, init: str = "default", bias: float = 0.0
) -> nn.Conv1d | nn.Conv2d:
    """A 1×1 convolution on ``dims`` grid axes.

    A convolution rather than an ``EinMix`` of the same pattern, ``b c … -> b o …``: on CPU it is as fast or faster,
    most of all backwards at many channels (``benchmarks/model_layers.py``).

    Args:
        dims: 1 or 2.
        in_channels, out_channels: channels.
        init: of the weight: ``"relu"`` (Kaiming normal, ReLU gain, fan-in), ``"linear"`` (Kaiming uniform, linear
            gain), or ``"default"`` (PyTorch's, of the bias as well).
        bias: initial bias, unless ``init`` is ``"default"``.
    """
    conv = (nn.Conv1d if dims == 1 else nn.Conv2d)(in_channels, out_channels, 1)
    if init != "default":
        if init == "relu":
            nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
        else:
            nn.init.kaiming_uniform_(conv.weight, nonlinearity="linear")
        assert conv.bias is not None
        nn.init.constant_(conv.bias, bias)
    return conv


def depthwise(value: Tensor, kernel: Tensor) -> Tensor:
    """Correlate every channel of ``value`` ``(b c …)`` with its kernel ``(c 1 k …)``, odd ``k``, zero padding."""
    conv = F.conv1d if value.ndim == 3 else F.conv2d
    return conv(value, kernel, padding=[k // 2 for k in kernel.shape[2:]], groups=kernel.shape[0])


def channel_dropout(dims: int, probability: float) -> nn.Module:
    """Dropout of whole channels."""
    return (nn.Dropout1d if dims == 1 else nn.Dropout2d)(probability)


def instance_standardise(x: Tensor) -> Tensor:
    """Zero mean and unit (biased) variance over the grid, per sample and channel."""
    return F.instance_norm(x, eps=EPS)


def batch_standardise(x: Tensor) -> Tensor:
    """Zero mean and unit (biased) variance over batch and grid, per channel: the batch's own, in evaluation too."""
    return F.batch_norm(x, None, None, training=True, eps=EPS)


class GroupedStandardisation(nn.Module):
    """G-IBS: channel groups 0, 2, 4, … are standardised over the batch, groups 1, 3, 5, … per instance.

    Args:
        axes: names of the grid axes.
        groups: even number of equal channel groups.
    """

    def __init__(self, axes: str, groups: int) -> None:
        super().__init__()
        self.pairs = groups // 2
        self._split = f"b (g p c) {axes} -> p b (g c) {axes}"
        self._ungroup = f"b (g c) {axes} -> b g c {axes}"
        self._pack = f"b g * {axes}"
        self._merge = f"b g c {axes} -> b (g c) {axes}"

    def forward(self, x: Tensor) -> Tensor:
        """``x`` and the result: ``(b c …)``."""
        even, odd = rearrange(x, self._split, g=self.pairs, p=2)
        parts = [batch_standardise(even), instance_standardise(odd)]
        # Packing behind the groups' axis interleaves the two kinds again in one copy.
        packed, _ = pack([rearrange(part, self._ungroup, g=self.pairs) for part in parts], self._pack)
        return rearrange(packed, self._merge)


class RecursiveGatedUnit(nn.Module):
    """RGU: ``W_y( gelu( IS( W_k z ⊙ W_q W_v z ) ) + p )``, every ``W`` a 1×1 with bias, ``p`` one map of the grid.

    Args:
        sizes: grid points along each axis.
        channels: channels in and out.
    """

    def __init__(self, sizes: tuple[int, ...], channels: int) -> None:
        super().__init__()
        self.offset = nn.Parameter(torch.zeros(1, 1, *sizes))
        self.key = pointwise(len(sizes), channels, channels, "linear")
        self.value = pointwise(len(sizes), channels, channels, "linear")
        self.query = pointwise(len(sizes), channels, channels, "linear")
        self.output = pointwise(len(sizes), channels, channels, "linear")

    def forward(self, z: Tensor) -> Tensor:
        """``z`` and the result: ``(b c …)``."""
        product: Tensor = self.key(z) * self.query(self.value(z))
        result: Tensor = self.output(F.gelu(instance_standardise(product)) + self.offset)
        return result
