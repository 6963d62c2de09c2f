"""Whole operators of published models, small: long convolutions whose kernels other networks write."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from einops import einsum, rearrange, reduce, repeat
from einops.layers.torch import EinMix, Rearrange
from torch import Tensor, nn

from tests.idioms.idiom import ASSUMING, WHOLE, Manner, inputs, positions, seeded
from tests.idioms.sizes import Sine

__all__ = ["MANNERS"]


def long_convolution(u: Tensor, kernel: Tensor, skip: Tensor) -> Any:
    """Causal, by FFT; ``u``: (b, d, l), ``kernel``: (d, l), ``skip``: (d)."""
    length = u.shape[-1]
    size = 2 * length
    spectrum = torch.fft.rfft(kernel, n=size) / size
    transformed = torch.fft.rfft(u.to(dtype=kernel.dtype), n=size)
    y = torch.fft.irfft(transformed * spectrum, n=size, norm="forward")[..., :length]
    return (y + u * skip.unsqueeze(-1)).to(dtype=u.dtype)


class ImplicitFilter(nn.Module):
    """Filters from features of their positions, under windows that decay at different rates."""

    z: Tensor
    t: Tensor
    rates: Tensor

    def __init__(self, width: int, length: int, bands: int = 2) -> None:
        super().__init__()
        t = torch.linspace(0, 1, length)[:, None]
        angles = 2 * math.pi * torch.arange(length)[:, None] / length * torch.linspace(1e-4, bands - 1, bands)[None]
        self.register_buffer("z", torch.cat([t, angles.cos(), -angles.sin()], dim=-1))
        self.register_buffer("t", t)
        self.register_buffer("rates", torch.linspace(1.0, 8.0, width)[None])
        self.mlp = nn.Sequential(nn.Linear(1 + 2 * bands, 8), Sine(), nn.Linear(8, 8), Sine(), nn.Linear(8, width))
        self.bias = nn.Parameter(torch.randn(width))

    def forward(self, length: int) -> Any:
        h = self.mlp(self.z[:length]) * (torch.exp(-self.t[:length] * self.rates) + 0.05)
        return rearrange(h, "l d -> d l")


class HyenaLike(nn.Module):
    """Projections, a short convolution, gates and long implicit convolutions in turn."""

    def __init__(self, width: int = 4, length: int = 12, order: int = 2) -> None:
        super().__init__()
        self.order = order
        self.width = width
        self.project_in = nn.Linear(width, (order + 1) * width)
        self.short = nn.Conv1d((order + 1) * width, (order + 1) * width, 3, padding=2, groups=(order + 1) * width)
        self.filter = ImplicitFilter(width * (order - 1), length)
        self.project_out = nn.Linear(width, width)

    def forward(self, u: Tensor) -> Any:
        length = u.size(-2)
        u = rearrange(self.project_in(u), "b l d -> b d l")
        *gates, v = self.short(u)[..., :length].split(self.width, dim=1)
        kernels = rearrange(self.filter(length), "(o d) l -> o d l", o=self.order - 1)
        bias = rearrange(self.filter.bias, "(o d) -> o d", o=self.order - 1)
        for index, gate in enumerate(reversed(gates[1:])):
            v = long_convolution(v * gate, kernels[index], bias[index])
        return self.project_out(rearrange(v * gates[0], "b d l -> b l d"))


class ContinuousKernel(nn.Module):
    """A causal convolution with a kernel over relative positions, as long as the first input was.

    A shorter or longer input later gets positions with the same step, as in training.
    """

    train_length: Tensor

    def __init__(self, channels: int = 3, out_channels: int = 3) -> None:
        super().__init__()
        self.shape = (out_channels, channels, -1)
        self.kernel_net = nn.Sequential(
            nn.utils.parametrizations.weight_norm(nn.Linear(1, 8)),
            Sine(4.0),
            nn.utils.parametrizations.weight_norm(nn.Linear(8, channels * out_channels)),
        )
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.register_buffer("train_length", torch.zeros(1).int(), persistent=True)
        self.relative: Tensor | None = None
        self.conv_kernel: Tensor | None = None

    def positions(self, x: Tensor) -> Tensor:
        if self.relative is None:
            if self.train_length[0] == 0:
                self.train_length[0] = x.shape[-1]
            step = 2.0 / (self.train_length.item() - 1)
            last = -1.0 + step * (x.shape[-1] - 1)
            self.relative = torch.linspace(-1.0, last, x.shape[-1]).type_as(x).unsqueeze(-1)
        return self.relative

    def forward(self, x: Tensor) -> Any:
        kernel = self.kernel_net(self.positions(x)).t().reshape(self.shape)
        self.conv_kernel = kernel
        pad = kernel.shape[-1] - 1
        padded = F.pad(x, [pad, 0])
        n = padded.shape[-1] + padded.shape[-1] % 2
        spectrum = torch.fft.rfft(padded, n=n, dim=-1).unsqueeze(1)
        weights = torch.fft.rfft(kernel, n=n, dim=-1).unsqueeze(0)
        weights.imag *= -1
        out = torch.fft.irfft((spectrum * weights).sum(2), n=n, dim=-1)[..., : x.shape[-1]]
        return out + self.bias.view(1, -1, 1)


class DiagonalStateSpace(nn.Module):
    """A diagonal state space in convolution mode: complex parameters kept as pairs, a Vandermonde kernel."""

    def __init__(self, width: int = 3, states: int = 4) -> None:
        super().__init__()
        self.c = nn.Parameter(torch.randn(width, states, 2))
        self.log_dt = nn.Parameter(torch.linspace(-3.0, -1.0, width))
        self.log_a_real = nn.Parameter(torch.log(0.5 * torch.ones(width, states)))
        self.a_imag = nn.Parameter(math.pi * repeat(torch.arange(states).float(), "n -> h n", h=width).contiguous())
        self.d = nn.Parameter(torch.randn(width))
        self.mix = nn.Sequential(nn.Conv1d(width, 2 * width, 1), nn.GLU(dim=-2))

    def kernel(self, length: int) -> Tensor:
        dt = self.log_dt.exp()
        c = torch.view_as_complex(self.c)
        a = -self.log_a_real.exp() + 1j * self.a_imag
        dt_a = a * dt.unsqueeze(-1)
        vandermonde = torch.exp(dt_a.unsqueeze(-1) * torch.arange(length, device=a.device))
        c = c * (torch.exp(dt_a) - 1.0) / a
        return 2 * torch.einsum("hn,hnl->hl", c, vandermonde).real

    def forward(self, u: Tensor) -> Any:
        return self.mix(F.gelu(long_convolution(u, self.kernel(u.size(-1)), self.d)))


class HyperZZW(nn.Module):
    """A slow network over coordinates writes a weight that is multiplied with activations of the fast one."""

    initialized: Tensor

    def __init__(self, channels: int = 4, size: int = 5) -> None:
        super().__init__()
        self.slow = nn.Sequential(nn.Linear(2, 8), Sine(), nn.Linear(8, channels))
        self.mix = EinMix("b c h w -> b o h w", weight_shape="o c", bias_shape="o", c=channels, o=channels)
        self.register_buffer("initialized", torch.zeros(1, dtype=torch.bool))
        self.size = size
        self.grid: Tensor | None = None
        self.slow_neural_loss: Any = 0.0

    def forward(self, x: Tensor) -> Tensor:
        if self.grid is None:
            axis = positions(self.size).type_as(x)
            self.grid = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), dim=-1)
        if not self.initialized[0]:
            self.slow.get_parameter("0.weight").data *= 2.0
            self.initialized[0] = True
        kernel = rearrange(self.slow(self.grid), "h w c -> 1 c h w")
        self.slow_neural_loss = reduce(kernel**2, "1 c h w -> ", "mean")
        weight = kernel * x
        value = F.instance_norm(self.mix(x))
        return F.gelu(weight @ value) + x


class EinopsOnly(nn.Module):
    """Patches, mixing over tokens and channels and a mean, all declared."""

    def __init__(self, width: int = 6) -> None:
        super().__init__()
        self.patches = Rearrange("b c (h p) (w q) -> b (h w) (p q c)", p=2, q=2)
        self.embed = EinMix("b t i -> b t d", weight_shape="i d", bias_shape="d", i=8, d=width)
        self.tokens = EinMix("b t d -> b s d", weight_shape="t s", t=6, s=6)
        self.classes = nn.Parameter(torch.randn(3, width))

    def forward(self, x: Tensor) -> Tensor:
        b = x.shape[0]
        hidden = self.embed(self.patches(x))
        hidden = hidden + F.gelu(self.tokens(hidden))
        flat = rearrange(hidden, "b t d -> (b t) d")
        hidden = rearrange(F.layer_norm(flat, flat.shape[-1:]), "(b t) d -> b t d", b=b)
        return einsum(reduce(hidden, "b t d -> b d", "mean"), self.classes, "b d, k d -> b k")


class Einsum(nn.Module):
    """Bilinear attention by ``torch.einsum``."""

    def __init__(self, width: int = 4, heads: int = 2) -> None:
        super().__init__()
        self.form = nn.Parameter(torch.randn(heads, width, width))

    def forward(self, x: Tensor) -> Tensor:
        scores = torch.einsum("bid,hde,bje->bhij", x, self.form, x)
        return torch.einsum("bhij,bjd->bid", scores.softmax(-1), x)


def _longer_training(model: Any) -> None:
    model.train_length.fill_(19)
    model.relative = None


def _not_initialized(model: Any) -> None:
    model.initialized.zero_()


MANNERS = (
    Manner("hyena", "gates and long convolutions with implicit filters", seeded(HyenaLike), inputs(12, 4), WHOLE),
    Manner(
        "ckconv",
        "generates a causal kernel over relative positions, whose step a stored length decides",
        seeded(ContinuousKernel),
        inputs(3, 13),
        WHOLE,
        change=_longer_training,
        effects=("conv_kernel", "relative"),
    ),
    Manner(
        "s4d",
        "has complex parameters by view_as_complex and a Vandermonde kernel",
        seeded(DiagonalStateSpace),
        inputs(3, 12),
        WHOLE,
    ),
    Manner(
        "hyperzzw",
        "is lazily initialised, keeps grid and loss, and multiplies a generated weight with activations",
        seeded(HyperZZW),
        inputs(4, 5, 5),
        ASSUMING,
        change=_not_initialized,
        effects=("grid", "slow_neural_loss"),
    ),
    Manner("einops", "declares everything with einops, EinMix included", seeded(EinopsOnly), inputs(2, 4, 6), WHOLE),
    Manner("einsum", "uses torch.einsum with three operands", seeded(Einsum), inputs(3, 4), WHOLE),
)
