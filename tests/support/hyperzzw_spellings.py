"""Ways to write the three forms of the operator, as functions of kernel, activations and value."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import einsum as einops_einsum
from einops import rearrange
from torch import nn

from tzwc.models import operators

B, C, N = 3, 2, 6


class _MatrixProduct(nn.Module):
    def forward(self, weight, value):
        return weight @ value


DOT = {
    "operator @": lambda k, z, v: (z * k) @ v,
    "models.operators": lambda k, z, v: operators.dot_product(z, k, v),
    "torch.mul, swapped": lambda k, z, v: torch.matmul(torch.mul(k, z), v),
    "torch.multiply": lambda k, z, v: torch.matmul(torch.multiply(z, k), v),
    "einsum": lambda k, z, v: torch.einsum("bcik,bckj->bcij", z * k, v),
    "einsum, value first": lambda k, z, v: torch.einsum("bckj,bcik->bcij", v, z * k),
    "einsum, ellipsis": lambda k, z, v: torch.einsum("...ik,...kj->...ij", z * k, v),
    "einsum, transposed value": lambda k, z, v: torch.einsum("bcik,bcjk->bcij", z * k, v.mT),
    "einsum, transposed output": lambda k, z, v: torch.einsum("bcik,bckj->bcji", z * k, v).mT,
    "einops.einsum": lambda k, z, v: einops_einsum(z * k, v, "b c i n, b c n j -> b c i j"),
    "bmm": lambda k, z, v: torch.bmm((z * k).reshape(-1, N, N), v.reshape(-1, N, N)).view(-1, C, N, N),
    "bmm, flatten": lambda k, z, v: torch.bmm((z * k).flatten(0, 1), v.flatten(0, 1)).unflatten(0, (-1, C)),
    "transposed operands": lambda k, z, v: (v.transpose(-1, -2) @ (z * k).mT).transpose(2, 3),
    "broadcast kernel": lambda k, z, v: torch.matmul(k.expand(z.shape[0], -1, -1, -1) * z, v),
    "kernel without batch axis": lambda k, z, v: (z * k[0]) @ v,
    "kernel of a network": lambda k, z, v: (z * torch.sin(k * 3)) @ v,
    "dropout off": lambda k, z, v: F.dropout(z * k, 0.0) @ F.dropout(v, 0.5, training=False),
    "squeezed and back": lambda k, z, v: ((z * k).unsqueeze(0) @ v.unsqueeze(0)).squeeze(0),
    "rectangular value": lambda k, z, v: (z * k) @ v[..., :4],
    "kernel for each sample": lambda k, z, v: (z * (k * v.mean((1, 2, 3), keepdim=True))) @ v,
    "in-place product": lambda k, z, v: (z + 0.5).mul_(k) @ v,
    "einsum of three": lambda k, z, v: torch.einsum("bcik,cik,bckj->bcij", z, k[0], v),
    "einsum of three, kernel last": lambda k, z, v: torch.einsum("bckj,bcik,cik->bcij", v, z, k[0]),
    "einops.einsum of three": lambda k, z, v: einops_einsum(z, k[0], v, "b c i n, c i n, b c n j -> b c i j"),
    "product by einsum": lambda k, z, v: torch.einsum("bcik,cik->bcik", z, k[0]) @ v,
    "product by einsum, other order": lambda k, z, v: torch.einsum("kic,bcik->bcik", k[0].permute(2, 1, 0), z) @ v,
    "transposed factors": lambda k, z, v: (v.mT @ (z.mT * k.mT)).mT,
    "values joined": lambda k, z, v: ((z * k) @ torch.cat([v, v * 2.0], -1)).chunk(2, -1)[0],
    "cloned, then in place": lambda k, z, v: z.clone().mul_(k) @ v,
    "repeated kernel": lambda k, z, v: (z * k.repeat(z.shape[0], 1, 1, 1)) @ v,
    "module": lambda k, z, v: _MatrixProduct()(z * k, v),
}


def rows(x):
    return x.reshape(1, -1, *x.shape[2:])


def taps(w):
    return w.reshape(-1, 1, *w.shape[2:])


def groups(x):
    return x.shape[0] * x.shape[1]


CONVOLUTION_1D = {
    "models.operators, same": lambda k, z, v: operators.convolution(z, k, v),
    "models.operators, causal": lambda k, z, v: operators.convolution(z, k, v, "causal"),
    "padding word": lambda k, z, v: F.conv1d(rows(v), taps(z * k), padding="same", groups=groups(v)).view(v.shape),
    "padding number": lambda k, z, v: F.conv1d(rows(v), taps(z * k), padding=N // 2, groups=groups(v))[..., :N].view(
        v.shape
    ),
    "padded after": lambda k, z, v: F.conv1d(F.pad(rows(v), (N - 1, 0)), taps((z * k).flip(-1)), groups=groups(v)).view(
        v.shape
    ),
    "padded before, flip after": lambda k, z, v: F.conv1d(
        rows(F.pad(v, (N - 1, 0))), taps(z * k).flip(2), groups=groups(v)
    ).view(v.shape),
    "einops": lambda k, z, v: rearrange(
        F.conv1d(
            rearrange(v, "b c l -> 1 (b c) l"),
            rearrange(k * z, "b c l -> (b c) 1 l"),
            padding=N - 1,
            groups=groups(v),
        ),
        "1 (b c) l -> b c l",
        c=C,
    ),
    "flatten and unsqueeze": lambda k, z, v: (
        F.conv1d(v.flatten(0, 1).unsqueeze(0), (z * k).flatten(0, 1).unsqueeze(1), padding="same", groups=groups(v))
        .squeeze(0)
        .unflatten(0, (-1, C))
    ),
    "aten.convolution": lambda k, z, v: torch.convolution(
        rows(v), taps(z * k), None, [1], [2], [1], False, [0], groups(v)
    ).view(v.shape[0], C, -1),
    "reversed twice": lambda k, z, v: F.conv1d(
        rows(v), taps((z * k).flip(-1)).flip(-1), padding="same", groups=groups(v)
    ).view(v.shape),
}
CONVOLUTION_2D = {
    "models.operators, same": lambda k, z, v: operators.convolution(z, k, v),
    "models.operators, causal": lambda k, z, v: operators.convolution(z, k, v, "causal"),
    "by hand": lambda k, z, v: F.conv2d(rows(v), taps(z * k), padding=(N - 1, 3), groups=groups(v)).view(
        v.shape[0], C, -1, N + 1
    ),
}
CONVOLUTIONS = [(f"1-D {name}", 1, f) for name, f in CONVOLUTION_1D.items()]
CONVOLUTIONS += [(f"2-D {name}", 2, f) for name, f in CONVOLUTION_2D.items()]

GATE = {
    "z * k * z": lambda k, z: z * k * z,
    "k * z * z": lambda k, z: k * z * z,
    "z * (k * z)": lambda k, z: z * (k * z),
    "z * z * k": lambda k, z: z * z * k,
    "k * (z * z)": lambda k, z: k * (z * z),
    "z ** 2": lambda k, z: k * z**2,
    "square": lambda k, z: torch.square(z) * k,
    "torch.mul": lambda k, z: torch.mul(torch.mul(z, k), z),
    "models.operators": lambda k, z: operators.gate(k, z),
    "in place": lambda k, z: (z * k).mul_(z),
    "expanded": lambda k, z: k.expand_as(z) * z * z,
    "einsum of three": lambda k, z: torch.einsum("bcn,cn,bcn->bcn", z, k[0], z),
    "einsum of two": lambda k, z: torch.einsum("bcn,cn->bcn", z, k[0]) * z,
    "transposed": lambda k, z: (z.mT * k.mT).mT * z,
}
