"""Ways to write a convolution with ``torch.fft``: name, function of kernel and input, size of the one, of the other."""

from __future__ import annotations

import math

import torch
import torch.fft as tf
import torch.nn.functional as F
from torch import Tensor

B, C, D, L, K = 2, 3, 4, 12, 9
N = 2 * L


def out(product: Tensor, n: int = N, **options: str) -> Tensor:
    return tf.irfft(product, n=n, **options)


DEPTHWISE = {
    "padded to 2L": lambda k, x: out(tf.rfft(x, n=N) * tf.rfft(k, n=N))[..., :L],
    "padded to L + K - 1": lambda k, x: out(tf.rfft(x, n=20) * tf.rfft(k, n=20), 20)[..., :L],
    "an odd number of points": lambda k, x: out(tf.rfft(x, n=21) * tf.rfft(k, n=21), 21)[..., :L],
    "a power of two": lambda k, x: out(tf.rfft(x, 32) * tf.rfft(k, 32), 32)[..., :L],
    "all of it": lambda k, x: out(tf.rfft(k, n=20) * tf.rfft(x, n=20), 20),
    "more than all of it": lambda k, x: out(tf.rfft(k, n=32) * tf.rfft(x, n=32), 32),
    "the end of it": lambda k, x: out(tf.rfft(k, n=20) * tf.rfft(x, n=20), 20)[..., -L:],
    "same": lambda k, x: out(tf.rfft(x, n=N) * tf.rfft(k, n=N))[..., K // 2 : K // 2 + L],
    "valid, where the wrap does not reach": lambda k, x: out(tf.rfft(x) * tf.rfft(k, n=L), L)[..., K - 1 :],
    "complex transforms": lambda k, x: tf.ifft(tf.fft(x, n=N) * tf.fft(k, n=N), n=N).real[..., :L],
    "complex, sliced before real": lambda k, x: tf.ifft(tf.fft(x, n=N) * tf.fft(k, n=N))[..., :L].real,
    "complex there, real back": lambda k, x: out(tf.fft(x, n=N) * tf.fft(k, n=N))[..., :L],
    "padded by F.pad": lambda k, x: out(tf.rfft(F.pad(x, (0, L))) * tf.rfft(F.pad(k, (0, N - K))))[..., :L],
    "cropped by F.pad": lambda k, x: out(tf.rfft(F.pad(x, (-2, 0)), n=N) * tf.rfft(F.pad(k, (0, -3)), n=N))[..., :L],
    "padded in front": lambda k, x: out(tf.rfft(F.pad(x, (8, 4))) * tf.rfft(k, n=N))[..., 8 : 8 + L],
    "padded by cat": lambda k, x: out(tf.rfft(torch.cat([x, torch.zeros_like(x)], -1)) * tf.rfft(k, n=N))[..., :L],
    "flipped kernel": lambda k, x: out(tf.rfft(x, n=N) * tf.rfft(k.flip(-1), n=N))[..., :L],
    "flipped input": lambda k, x: out(tf.rfft(x.flip(-1), n=N) * tf.rfft(k, n=N))[..., :L],
    "correlation": lambda k, x: out(tf.rfft(x, n=N) * tf.rfft(k, n=N).conj())[..., : L - K + 1],
    "correlation, conj function": lambda k, x: out(tf.rfft(x, n=N) * torch.conj(tf.rfft(k, n=N)))[..., :L],
    "correlation, input conjugated": lambda k, x: out(tf.rfft(x, n=N).conj() * tf.rfft(k, n=N))[..., :K],
    "negative lags": lambda k, x: out(tf.rfft(x, n=N) * tf.rfft(k, n=N).conj())[..., -K + 1 :],
    "both conjugated": lambda k, x: out((tf.rfft(x, n=N) * tf.rfft(k, n=N)).conj())[..., 5:],
    "rotated kernel": lambda k, x: out(tf.rfft(x, n=N) * tf.rfft(F.pad(k, (0, N - K)).roll(-4, -1)))[..., :L],
    "rotated result": lambda k, x: torch.roll(out(tf.rfft(x, n=N) * tf.rfft(k, n=N)), -4, -1)[..., :L],
    "fftshift": lambda k, x: tf.fftshift(out(tf.rfft(x, n=N) * tf.rfft(k, n=N).conj()), -1)[..., 4:],
    "ifftshift of the kernel": lambda k, x: out(tf.rfft(x, n=N) * tf.rfft(tf.ifftshift(F.pad(k, (8, 7)), dim=-1)))[
        ..., :L
    ],
    "fftshift of an odd number": lambda k, x: tf.fftshift(out(tf.rfft(x, n=21) * tf.rfft(k, n=21).conj(), 21), -1)[
        ..., 2:
    ],
    "ifftshift of an odd number": lambda k, x: tf.ifftshift(out(tf.rfft(x, n=21) * tf.rfft(k, n=21).conj(), 21), -1)[
        ..., 3:
    ],
    "ortho": lambda k, x: out(tf.rfft(x, n=N, norm="ortho") * tf.rfft(k, n=N, norm="ortho"), norm="ortho")[..., :L],
    "ortho, made good": lambda k, x: out(
        tf.rfft(x, n=N, norm="ortho") * tf.rfft(k, n=N, norm="ortho") * math.sqrt(N), norm="ortho"
    )[..., :L],
    "kernel divided, forward": lambda k, x: out(tf.rfft(x, n=N) * (tf.rfft(k, n=N) / N), norm="forward")[..., :L],
    "factors": lambda k, x: out(-0.5 * tf.rfft(x, n=N) * tf.rfft(k, n=N) / 3, norm="forward")[..., :L],
    "three axes of the kernel": lambda k, x: out(tf.rfft(x, n=N) * tf.rfft(k[None], n=N))[..., :L],
    "spectrum unsqueezed": lambda k, x: out(tf.rfft(x, n=N) * tf.rfft(k, n=N).unsqueeze(0))[..., :L],
    "expanded kernel": lambda k, x: out(tf.rfft(x, n=N) * tf.rfft(k.expand(B, C, K), n=N))[..., :L],
    "one kernel for all": lambda k, x: out(tf.rfft(x, n=N) * tf.rfft(k[0], n=N))[..., :L],
    "product by einsum": lambda k, x: out(torch.einsum("bcl,cl->bcl", tf.rfft(x, n=N), tf.rfft(k, n=N)))[..., :L],
    "einsum, ellipsis": lambda k, x: out(torch.einsum("...l,cl->...cl", tf.rfft(x[:, 0], n=N), tf.rfft(k, n=N)))[
        ..., :L
    ],
    "rfftn": lambda k, x: tf.irfftn(tf.rfftn(x, s=(N,)) * tf.rfftn(k, s=(N,), dim=(-1,)), s=(N,), dim=-1)[..., :L],
    "residual outside": lambda k, x: out(tf.rfft(x, n=N) * tf.rfft(k, n=N))[..., :L] + x * k[:, :1],
    "narrow": lambda k, x: out(tf.rfft(x, n=N) * tf.rfft(k, n=N)).narrow(-1, 1, L),
    "two parts": lambda k, x: (lambda y: (y[..., :L], y[..., L:20]))(out(tf.rfft(x, n=N) * tf.rfft(k, n=N))),
    "two parts out of the middle": lambda k, x: (lambda y: (y[..., 2:8], y[..., 8:20]))(
        out(tf.rfft(x, n=N) * tf.rfft(k, n=N))
    ),
    "every second": lambda k, x: out(tf.rfft(x, n=N) * tf.rfft(k, n=N))[..., 1:L:2],
    "flipped channels": lambda k, x: out(tf.rfft(x.flip(1), n=N) * tf.rfft(k, n=N))[..., :L],
    "reflected padding": lambda k, x: out(tf.rfft(F.pad(x, (4, 0), "reflect"), n=N) * tf.rfft(k, n=N))[..., :L],
    "padded by ones": lambda k, x: out(tf.rfft(F.pad(x, (4, 0), value=1.0), n=N) * tf.rfft(k, n=N))[..., :L],
    "joined with other values": lambda k, x: out(
        tf.rfft(torch.cat([x[..., :8], x[..., 4:]], -1), n=N) * tf.rfft(k, n=N)
    )[..., :L],
    "rotated samples": lambda k, x: out(tf.rfft(x.roll(1, 0), n=N) * tf.rfft(k, n=N))[..., :L],
    "some channels": lambda k, x: out(tf.rfft(x, n=N) * tf.rfft(k, n=N))[:, 1:],
    "rotated by the number of samples": lambda k, x: out(tf.rfft(x.roll(x.shape[0], -1), n=N) * tf.rfft(k, n=N))[
        ..., :L
    ],
    "cut by n": lambda k, x: out(tf.rfft(x, n=N) * tf.rfft(k.repeat(1, 4), n=N))[..., -1:],
    "in-place product": lambda k, x: out(tf.rfft(x, n=N).mul_(tf.rfft(k, n=N)))[..., :L],
    "kernel of a network": lambda k, x: out(tf.rfft(x, n=N) * tf.rfft(torch.sin(k * 3), n=N))[..., :L],
    "kernel of the input": lambda k, x: out(tf.rfft(x, n=N) * tf.rfft(k * x.mean(-1, keepdim=True), n=N))[..., :L],
    "operators of the library": lambda k, x: torch.ops.tzwc.irfftn(
        torch.ops.tzwc.rfftn(x, [N]) * torch.ops.tzwc.rfftn(k, [N]), [N]
    )[..., :L],
    "below torch.fft": lambda k, x: torch.ops.aten._fft_c2r(
        torch.ops.aten._fft_r2c(F.pad(x, (0, L)), [2], 0, True) * tf.rfft(k, n=N), [2], 2, N
    )[..., :L],
}
DENSE = {
    "einsum": lambda k, x: out(torch.einsum("bil,oil->bol", tf.rfft(x, n=N), tf.rfft(k, n=N)))[..., :L],
    "einsum, kernel first": lambda k, x: out(torch.einsum("oif,bif->bof", tf.rfft(k, n=N), tf.rfft(x, n=N)))[..., :L],
    "einsum, other order": lambda k, x: out(
        torch.einsum("bil,iol->bol", tf.rfft(x, n=N), tf.rfft(k.transpose(0, 1), n=N))
    )[..., :L],
    "einsum, one output": lambda k, x: out(torch.einsum("bil,il->bl", tf.rfft(x, n=N), tf.rfft(k[0], n=N)))[..., :L],
    "product and sum": lambda k, x: out((tf.rfft(x, n=N)[:, None] * tf.rfft(k, n=N)).sum(2))[..., :L],
    "sum, keepdim": lambda k, x: out((tf.rfft(x, n=N)[:, None] * tf.rfft(k, n=N)).sum(2, keepdim=True))[..., :L],
    "matmul": lambda k, x: out((tf.rfft(x, n=N).permute(2, 0, 1) @ tf.rfft(k, n=N).permute(2, 1, 0)).permute(1, 2, 0))[
        ..., :L
    ],
    "matmul with a conjugate transpose": lambda k, x: out(
        (tf.rfft(x, n=N).permute(2, 0, 1) @ tf.rfft(k, n=N).permute(2, 0, 1).mH).permute(1, 2, 0)
    )[..., :4],
    "matmul with a transpose": lambda k, x: out(
        (tf.rfft(k, n=N).permute(2, 0, 1) @ tf.rfft(x, n=N).permute(2, 0, 1).mT).movedim(0, -1).transpose(0, 1)
    )[..., :L],
    "no sum": lambda k, x: out(tf.rfft(x, n=N)[:, None] * tf.rfft(k, n=N))[..., :L],
    "several outputs a channel": lambda k, x: out(torch.einsum("bhl,chl->bchl", tf.rfft(x, n=N), tf.rfft(k, n=N)))[
        ..., :L
    ],
}
TWO = {
    "rfft2": lambda k, x: tf.irfft2(tf.rfft2(x, s=(20, 20)) * tf.rfft2(k, s=(20, 20)), s=(20, 20))[..., :L, :L],
    "rfftn": lambda k, x: tf.irfftn(
        tf.rfftn(x, s=(20, 24), dim=(-2, -1)) * tf.rfftn(k, s=(20, 24), dim=(2, 3)), s=(20, 24), dim=(-2, -1)
    )[..., 4:16, 4:16],
    "correlation": lambda k, x: tf.irfft2(tf.rfft2(x, s=(20, 20)) * tf.rfft2(k, s=(20, 20)).conj(), s=(20, 20))[
        ..., :4, :4
    ],
    "flipped along one axis": lambda k, x: tf.irfft2(
        tf.rfft2(x, s=(20, 20)) * tf.rfft2(k.flip(-1), s=(20, 20)).conj(), s=(20, 20)
    )[..., :4, :L],
    "ortho": lambda k, x: tf.irfft2(
        tf.rfft2(x, s=(20, 20), norm="ortho") * tf.rfft2(k, s=(20, 20)), s=(20, 20), norm="ortho"
    )[..., :L, :L],
    "complex": lambda k, x: tf.ifft2(tf.fft2(x, s=(20, 20)) * tf.fft2(k, s=(20, 20))).real[..., :L, :L],
    "one axis of two": lambda k, x: out(tf.rfft(x, n=N) * tf.rfft(k[:, :, :1], n=N))[..., :L],
}
CASES = [(f"depthwise, {n}", f, (C, K), (B, C, L)) for n, f in DEPTHWISE.items()]
CASES += [(f"dense, {n}", f, (D, C, K), (B, C, L)) for n, f in DENSE.items()]
CASES += [(f"2-D, {n}", f, (1, C, K, K), (B, C, L, L)) for n, f in TWO.items()]


def _ckconv(k, x):
    """Causal: the kernel padded in front to the input's length, both padded, an odd length made even, conjugated."""
    k = F.pad(k, (x.shape[-1] - k.shape[-1], 0))
    x = F.pad(x, (k.shape[-1] - 1, 0))
    k = F.pad(k, (0, L - 1))
    if x.shape[-1] % 2:
        x, k = F.pad(x, (0, 1)), F.pad(k, (0, 1))
    return tf.irfft((tf.rfft(x).unsqueeze(1) * tf.rfft(k).conj().unsqueeze(0)).sum(2))[..., :L]


def _flexconv(k, x):
    """Two axes, centred: the input padded around, the kernel behind, the product cut out of the middle."""
    pad = K // 2
    image = F.pad(x, (pad, pad, pad, pad))
    rest = image.shape[-1] - K
    taps = F.pad(k, (0, rest, 0, rest))
    if image.shape[-1] % 2:
        image, taps = F.pad(image, (0, 1)), F.pad(taps, (0, 1))
    y = tf.irfftn(tf.rfftn(image, dim=(-2, -1)) * tf.rfftn(taps, dim=(-2, -1)).conj(), dim=(-2, -1))
    return y[:, :, :L, :L]


def _hyena(k, x):
    n = 2 * x.shape[-1]
    k_f = tf.rfft(k, n=n) / n
    u_f = tf.rfft(x.to(dtype=k.dtype), n=n)
    y = tf.irfft(u_f * k_f, n=n, norm="forward")[..., : x.shape[-1]]
    return (y + x * k[:, 0].unsqueeze(-1)).to(dtype=x.dtype)


def _state_space(k, x):
    """Several outputs a channel, the skip connection by einsum, activations around."""
    n = L + K
    k_f, u_f = tf.rfft(k, n=n), tf.rfft(x, n=n)
    y = tf.irfft(torch.einsum("bhl,chl->bchl", u_f, k_f), n=n)[..., :L]
    return F.gelu((y + torch.einsum("bhl,ch->bchl", x, k[..., 0])).flatten(1, 2))


IN_THE_WILD = [
    ("CKConv", _ckconv, (D, C, K), (B, C, L)),
    ("FlexConv", _flexconv, (C, K, K), (B, C, L, L)),
    ("Hyena", _hyena, (C, L), (B, C, L)),
    ("S4", _state_space, (D, C, K), (B, C, L)),
]
CASES += IN_THE_WILD
