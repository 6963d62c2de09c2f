"""Slow networks: multiplicative sine networks that write hyper-kernels from coordinates.

The sine's argument reaches ``2π · omega_0 · γ ≈ 1e5``, so float32 kernels carry the rounding of that argument: they
differ from float64 by about 1e-3 of their peak. Implementations agree in float64.
"""

from __future__ import annotations

import math

import torch
from einops import rearrange, reduce
from torch import Tensor, nn
from torch.nn import functional as F

from tzwc.models.layers import pointwise
from tzwc.models.resolution import resample

__all__ = ["KernelGenerator", "SineNetwork", "SlowNetwork", "coordinate_grid"]

RENORM_ALPHA = 1.0
RENORM_BETA = 0.10000000149011612
"""Weights of the s-renormalisation; the second is the float32 nearest to 0.1, as released."""


def coordinate_grid(sizes: tuple[int, ...]) -> Tensor:
    """Coordinates in ``[-1, 1]^d``: ``(1 d *sizes)``, coordinate 0 along the first axis.

    Made in float32 whatever the default dtype and cast afterwards: the released kernels belong to these values, and a
    float64 grid would move them by up to 1e-3.
    """
    axes = [torch.linspace(-1, 1, size, dtype=torch.float32) for size in sizes]
    grid = rearrange(list(torch.meshgrid(*axes, indexing="ij")), "d ... -> 1 d ...")
    return grid.to(torch.get_default_dtype())


class SineNetwork(nn.Module):
    """What both kinds of slow network share: filters ``g_l(c) = sin(W_l c + b_l)`` and layers between them.

    ``h_0 = g_0(c)``, ``h_i = g_i(c) ⊙ (U_i h_{i−1} + u_i) + p`` and ``K = W_o h + b_o``. ``W_l`` starts as PyTorch's
    default times ``2π · omega_0 · γ``, ``γ ~ Gamma(6 / (l + 1), 1)`` per hidden channel and axis; ``W_o`` is scaled
    once, here, by one over the root of the number of grid points.

    Args:
        sizes: grid points along each axis (one or two).
        out_channels, hidden, layers: channels of the kernel, hidden channels, layers after the first filter.
        omega_0: frequency scale.
        resampled: the grid that the kernel is interpolated to; by default ``sizes``.
    """

    coordinates: Tensor

    def __init__(
        self,
        sizes: tuple[int, ...],
        out_channels: int,
        hidden: int,
        layers: int,
        omega_0: float,
        resampled: tuple[int, ...] | None = None,
    ) -> None:
        super().__init__()
        self.resampled = sizes if resampled is None else resampled
        dims = len(sizes)
        # Not part of the state dict: the grid follows from the declaration.
        self.register_buffer("coordinates", coordinate_grid(sizes), persistent=False)
        self.filters = nn.ModuleList(self._filter(dims, hidden, layer, omega_0) for layer in range(layers + 1))
        self.linears = nn.ModuleList(pointwise(dims, hidden, hidden, "linear", bias=1.0) for _ in range(layers))
        self.offset = nn.Parameter(torch.zeros(1, 1, *sizes))
        self.output = pointwise(dims, hidden, out_channels, "linear")
        with torch.no_grad():
            self.output.weight.mul_(1 / math.sqrt(math.prod(sizes)))

    @staticmethod
    def _filter(dims: int, hidden: int, layer: int, omega_0: float) -> nn.Conv1d | nn.Conv2d:
        linear = pointwise(dims, dims, hidden)
        assert linear.bias is not None
        nn.init.zeros_(linear.bias)
        gamma = torch.distributions.Gamma(6 / (layer + 1), 1.0, validate_args=False).sample((hidden, dims))
        with torch.no_grad():
            linear.weight.mul_(2 * math.pi * omega_0 * gamma.to(linear.weight).view_as(linear.weight))
        return linear

    def filtered(self, layer: int) -> Tensor:
        """``g_layer(c)``: ``(1 hidden *sizes)``, in the dtype of the parameters under autocast, too.

        The argument of the sine reaches 1e5, of which a 16-bit number would keep nothing.
        """
        device = self.coordinates.device.type
        if torch.is_autocast_enabled(device):
            with torch.autocast(device, enabled=False):
                return torch.sin(self.filters[layer](self.coordinates))
        return torch.sin(self.filters[layer](self.coordinates))


class SlowNetwork(SineNetwork):
    """The slow network of a hyper-kernel that depends on nothing but its parameters."""

    def forward(self) -> Tensor:
        """The hyper-kernel, ``(1 out_channels *sizes)``."""
        hidden = self.filtered(0)
        for layer, linear in enumerate(self.linears, start=1):
            hidden = self.filtered(layer) * linear(hidden) + self.offset
        kernel: Tensor = self.output(hidden)
        return resample(kernel, self.resampled)


class KernelGenerator(SineNetwork):
    """The slow network of a local hyper-kernel, modulated by the mean of a branch over the batch.

    After every layer the hidden maps are s-renormalised, ``h ← α stopgrad(h) + β h / ‖h‖₂`` with the norm over each
    map, and multiplied by ``V_i(x̄)``, ``x̄ = gelu( fc( mean_batch( reduce( AdaptiveAvgPool(source) ) ) ) )``.

    Args:
        kernel_size: taps along each of ``dims`` axes.
        dims: grid axes.
        channels: channels of the source, and kernels to generate.
        hidden, layers, omega_0: as in :class:`SineNetwork`.
        taps: along each axis that the kernel is interpolated to; by default ``kernel_size``.
    """

    def __init__(
        self,
        kernel_size: int,
        dims: int,
        channels: int,
        hidden: int,
        layers: int,
        omega_0: float,
        taps: int | None = None,
    ) -> None:
        super().__init__((kernel_size,) * dims, channels, hidden, layers, omega_0, (taps or kernel_size,) * dims)
        self.pool = (nn.AdaptiveAvgPool1d if dims == 1 else nn.AdaptiveAvgPool2d)(kernel_size)
        self.reduce = pointwise(dims, channels, hidden)
        self.fc = pointwise(dims, hidden, hidden)
        self.context = nn.ModuleList(pointwise(dims, hidden, hidden, "linear", bias=1.0) for _ in range(layers))

    def forward(self, source: Tensor) -> Tensor:
        """Kernels ``(channels 1 *kernel)`` from ``source`` ``(b channels …)``: the same for the whole batch."""
        # Pooling and ``reduce`` are linear, so the mean over the batch may come first and spare them the batch.
        mean = reduce(source, "b c ... -> 1 c ...", "mean")
        context = F.gelu(self.fc(self.reduce(self.pool(mean))))
        hidden = self.filtered(0)
        for layer, (linear, modulate) in enumerate(zip(self.linears, self.context, strict=True), start=1):
            hidden = self.filtered(layer) * linear(hidden) + self.offset
            hidden = s_renormalise(hidden) * modulate(context)
        kernel: Tensor = resample(self.output(hidden), self.resampled)
        return rearrange(kernel, "1 c ... -> c 1 ...")


def s_renormalise(hidden: Tensor) -> Tensor:
    """``α stopgrad(h) + β h / max(‖h‖₂, 1e-12)`` for ``h`` ``(1 c …)``, the norm over everything behind ``c``."""
    norm: Tensor = torch.linalg.vector_norm(hidden, dim=tuple(range(2, hidden.ndim)), keepdim=True).clamp_min(1e-12)
    return RENORM_ALPHA * hidden.detach() + RENORM_BETA * (hidden / norm)
