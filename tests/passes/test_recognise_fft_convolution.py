"""Convolutions written with transforms are recognised in many spellings, and compute the same values and gradients."""

from __future__ import annotations

import math

import pytest
import torch
import torch.fft as tf
import torch.nn.functional as F
from fft_testing import FFT, PASSES, SPECTRUM, assert_close, capture_program, double, transforms
from pass_testing import remarks
from torch import nn

import tzwc
from tzwc.ops import fft_convolution, good_size, kernel_spectrum
from tzwc.passes import DEFAULT_PASSES
from tzwc.passes.shapes import shape_of

B, C, D, L, K = 2, 3, 4, 12, 9
N = 2 * L


def _out(product, n=N, **options):
    return tf.irfft(product, n=n, **options)


DEPTHWISE = {
    "padded to 2L": lambda k, x: _out(tf.rfft(x, n=N) * tf.rfft(k, n=N))[..., :L],
    "padded to L + K - 1": lambda k, x: _out(tf.rfft(x, n=20) * tf.rfft(k, n=20), 20)[..., :L],
    "an odd number of points": lambda k, x: _out(tf.rfft(x, n=21) * tf.rfft(k, n=21), 21)[..., :L],
    "a power of two": lambda k, x: _out(tf.rfft(x, 32) * tf.rfft(k, 32), 32)[..., :L],
    "all of it": lambda k, x: _out(tf.rfft(k, n=20) * tf.rfft(x, n=20), 20),
    "more than all of it": lambda k, x: _out(tf.rfft(k, n=32) * tf.rfft(x, n=32), 32),
    "the end of it": lambda k, x: _out(tf.rfft(k, n=20) * tf.rfft(x, n=20), 20)[..., -L:],
    "same": lambda k, x: _out(tf.rfft(x, n=N) * tf.rfft(k, n=N))[..., K // 2 : K // 2 + L],
    "valid, where the wrap does not reach": lambda k, x: _out(tf.rfft(x) * tf.rfft(k, n=L), L)[..., K - 1 :],
    "complex transforms": lambda k, x: tf.ifft(tf.fft(x, n=N) * tf.fft(k, n=N), n=N).real[..., :L],
    "complex, sliced before real": lambda k, x: tf.ifft(tf.fft(x, n=N) * tf.fft(k, n=N))[..., :L].real,
    "complex there, real back": lambda k, x: _out(tf.fft(x, n=N) * tf.fft(k, n=N))[..., :L],
    "padded by F.pad": lambda k, x: _out(tf.rfft(F.pad(x, (0, L))) * tf.rfft(F.pad(k, (0, N - K))))[..., :L],
    "padded in front": lambda k, x: _out(tf.rfft(F.pad(x, (8, 4))) * tf.rfft(k, n=N))[..., 8 : 8 + L],
    "padded by cat": lambda k, x: _out(tf.rfft(torch.cat([x, torch.zeros_like(x)], -1)) * tf.rfft(k, n=N))[..., :L],
    "flipped kernel": lambda k, x: _out(tf.rfft(x, n=N) * tf.rfft(k.flip(-1), n=N))[..., :L],
    "flipped input": lambda k, x: _out(tf.rfft(x.flip(-1), n=N) * tf.rfft(k, n=N))[..., :L],
    "correlation": lambda k, x: _out(tf.rfft(x, n=N) * tf.rfft(k, n=N).conj())[..., : L - K + 1],
    "correlation, conj function": lambda k, x: _out(tf.rfft(x, n=N) * torch.conj(tf.rfft(k, n=N)))[..., :L],
    "correlation, input conjugated": lambda k, x: _out(tf.rfft(x, n=N).conj() * tf.rfft(k, n=N))[..., :K],
    "negative lags": lambda k, x: _out(tf.rfft(x, n=N) * tf.rfft(k, n=N).conj())[..., -K + 1 :],
    "both conjugated": lambda k, x: _out((tf.rfft(x, n=N) * tf.rfft(k, n=N)).conj())[..., 5:],
    "rotated kernel": lambda k, x: _out(tf.rfft(x, n=N) * tf.rfft(F.pad(k, (0, N - K)).roll(-4, -1)))[..., :L],
    "rotated result": lambda k, x: torch.roll(_out(tf.rfft(x, n=N) * tf.rfft(k, n=N)), -4, -1)[..., :L],
    "fftshift": lambda k, x: tf.fftshift(_out(tf.rfft(x, n=N) * tf.rfft(k, n=N).conj()), -1)[..., 4:],
    "ifftshift of the kernel": lambda k, x: _out(tf.rfft(x, n=N) * tf.rfft(tf.ifftshift(F.pad(k, (8, 7)), dim=-1)))[
        ..., :L
    ],
    "ortho": lambda k, x: _out(tf.rfft(x, n=N, norm="ortho") * tf.rfft(k, n=N, norm="ortho"), norm="ortho")[..., :L],
    "ortho, made good": lambda k, x: _out(
        tf.rfft(x, n=N, norm="ortho") * tf.rfft(k, n=N, norm="ortho") * math.sqrt(N), norm="ortho"
    )[..., :L],
    "kernel divided, forward": lambda k, x: _out(tf.rfft(x, n=N) * (tf.rfft(k, n=N) / N), norm="forward")[..., :L],
    "factors": lambda k, x: _out(-0.5 * tf.rfft(x, n=N) * tf.rfft(k, n=N) / 3, norm="forward")[..., :L],
    "three axes of the kernel": lambda k, x: _out(tf.rfft(x, n=N) * tf.rfft(k[None], n=N))[..., :L],
    "spectrum unsqueezed": lambda k, x: _out(tf.rfft(x, n=N) * tf.rfft(k, n=N).unsqueeze(0))[..., :L],
    "expanded kernel": lambda k, x: _out(tf.rfft(x, n=N) * tf.rfft(k.expand(B, C, K), n=N))[..., :L],
    "one kernel for all": lambda k, x: _out(tf.rfft(x, n=N) * tf.rfft(k[0], n=N))[..., :L],
    "product by einsum": lambda k, x: _out(torch.einsum("bcl,cl->bcl", tf.rfft(x, n=N), tf.rfft(k, n=N)))[..., :L],
    "einsum, ellipsis": lambda k, x: _out(torch.einsum("...l,cl->...cl", tf.rfft(x[:, 0], n=N), tf.rfft(k, n=N)))[
        ..., :L
    ],
    "rfftn": lambda k, x: tf.irfftn(tf.rfftn(x, s=(N,)) * tf.rfftn(k, s=(N,), dim=(-1,)), s=(N,), dim=-1)[..., :L],
    "residual outside": lambda k, x: _out(tf.rfft(x, n=N) * tf.rfft(k, n=N))[..., :L] + x * k[:, :1],
    "narrow": lambda k, x: _out(tf.rfft(x, n=N) * tf.rfft(k, n=N)).narrow(-1, 1, L),
    "two parts": lambda k, x: (lambda y: (y[..., :L], y[..., L:20]))(_out(tf.rfft(x, n=N) * tf.rfft(k, n=N))),
    "every second": lambda k, x: _out(tf.rfft(x, n=N) * tf.rfft(k, n=N))[..., 1:L:2],
    "cut by n": lambda k, x: _out(tf.rfft(x, n=N) * tf.rfft(k.repeat(1, 4), n=N))[..., -1:],
    "in-place product": lambda k, x: _out(tf.rfft(x, n=N).mul_(tf.rfft(k, n=N)))[..., :L],
    "kernel of a network": lambda k, x: _out(tf.rfft(x, n=N) * tf.rfft(torch.sin(k * 3), n=N))[..., :L],
    "kernel of the input": lambda k, x: _out(tf.rfft(x, n=N) * tf.rfft(k * x.mean(-1, keepdim=True), n=N))[..., :L],
    "operators of the library": lambda k, x: torch.ops.tzwc.irfftn(
        torch.ops.tzwc.rfftn(x, [N]) * torch.ops.tzwc.rfftn(k, [N]), [N]
    )[..., :L],
    "below torch.fft": lambda k, x: torch.ops.aten._fft_c2r(
        torch.ops.aten._fft_r2c(F.pad(x, (0, L)), [2], 0, True) * tf.rfft(k, n=N), [2], 2, N
    )[..., :L],
}
DENSE = {
    "einsum": lambda k, x: _out(torch.einsum("bil,oil->bol", tf.rfft(x, n=N), tf.rfft(k, n=N)))[..., :L],
    "einsum, kernel first": lambda k, x: _out(torch.einsum("oif,bif->bof", tf.rfft(k, n=N), tf.rfft(x, n=N)))[..., :L],
    "einsum, other order": lambda k, x: _out(
        torch.einsum("bil,iol->bol", tf.rfft(x, n=N), tf.rfft(k.transpose(0, 1), n=N))
    )[..., :L],
    "product and sum": lambda k, x: _out((tf.rfft(x, n=N)[:, None] * tf.rfft(k, n=N)).sum(2))[..., :L],
    "sum, keepdim": lambda k, x: _out((tf.rfft(x, n=N)[:, None] * tf.rfft(k, n=N)).sum(2, keepdim=True))[..., :L],
    "matmul": lambda k, x: _out((tf.rfft(x, n=N).permute(2, 0, 1) @ tf.rfft(k, n=N).permute(2, 1, 0)).permute(1, 2, 0))[
        ..., :L
    ],
    "matmul with a conjugate transpose": lambda k, x: _out(
        (tf.rfft(x, n=N).permute(2, 0, 1) @ tf.rfft(k, n=N).permute(2, 0, 1).mH).permute(1, 2, 0)
    )[..., :4],
    "matmul with a transpose": lambda k, x: _out(
        (tf.rfft(k, n=N).permute(2, 0, 1) @ tf.rfft(x, n=N).permute(2, 0, 1).mT).movedim(0, -1).transpose(0, 1)
    )[..., :L],
    "no sum": lambda k, x: _out(tf.rfft(x, n=N)[:, None] * tf.rfft(k, n=N))[..., :L],
    "several outputs a channel": lambda k, x: _out(torch.einsum("bhl,chl->bchl", tf.rfft(x, n=N), tf.rfft(k, n=N)))[
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
    "one axis of two": lambda k, x: _out(tf.rfft(x, n=N) * tf.rfft(k[:, :, :1], n=N))[..., :L],
}
CASES = [(f"depthwise, {n}", f, (C, K), (B, C, L)) for n, f in DEPTHWISE.items()]
CASES += [(f"dense, {n}", f, (D, C, K), (B, C, L)) for n, f in DENSE.items()]
CASES += [(f"2-D, {n}", f, (1, C, K, K), (B, C, L, L)) for n, f in TWO.items()]


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.mark.parametrize("mode", ["fft", "native"])
@pytest.mark.parametrize(("function", "kernel", "x"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_every_spelling_is_recognised(function, kernel, x, mode):
    program = capture_program(function, double(*kernel), double(*x), dynamic=False)
    stages = program.run(*PASSES, convolution=mode)
    counts = program.counts()
    assert not transforms(program), counts
    assert not remarks(stages, "declined", "convolution")
    assert remarks(stages, "applied", "convolution")[0].numbers["choice"] == mode
    assert counts[FFT] == counts[SPECTRUM] == (1 if mode == "fft" else 0)
    assert_close(program)


OPEN = [
    *("padded to 2L", "complex transforms", "padded by F.pad", "correlation", "kernel divided, forward", "two parts"),
    *("product by einsum", "spectrum unsqueezed", "one kernel for all", "operators of the library"),
]
OPEN_CASES = [(n, DEPTHWISE[n], (C, K), (B, C, L)) for n in OPEN]
OPEN_CASES += [(f"dense, {n}", DENSE[n], (D, C, K), (B, C, L)) for n in ("einsum", "product and sum", "no sum")]
OPEN_CASES += [("2-D", TWO["rfft2"], (1, C, K, K), (B, C, L, L))]


@pytest.mark.parametrize("mode", ["fft", "native"])
@pytest.mark.parametrize(("function", "kernel", "x"), [c[1:] for c in OPEN_CASES], ids=[c[0] for c in OPEN_CASES])
def test_the_batch_stays_open(function, kernel, x, mode):
    program = capture_program(function, double(*kernel), double(*x), dynamic=True)
    if all(isinstance(n, int) for node in program.module.graph.nodes for n in shape_of(node)):
        pytest.skip("this capture fixed the batch size because of a transform")
    program.run(*PASSES, convolution=mode)
    assert not transforms(program)
    assert_close(program)
    assert_close(program, double(B + 3, *x[1:]))


def test_one_kernel_a_sample():
    program = capture_program(
        lambda k, x: _out(tf.rfft(x, n=N) * tf.rfft(torch.tanh(x * k[:, :1]), n=N))[..., :L],
        *(double(C, K), double(B, C, L)),
        dynamic=True,
    )
    program.run(*PASSES)
    assert not transforms(program)
    assert_close(program)
    assert_close(program, double(B + 3, C, L))


@pytest.mark.parametrize("mode", ["fft", "native"])
def test_a_product_with_a_kernel_is_the_operator_of_the_library(mode):
    def function(k, x):
        z, v = x[:, 0], x[:, 1]
        return _out(tf.rfft(v, n=N) * tf.rfft(z * k, n=N))[..., :L]

    program = capture_program(function, double(C, L), double(B, 2, C, L), dynamic=True)
    program.run(*PASSES, "fuse_hyperzzw", convolution=mode)
    assert not transforms(program)
    assert program.counts()["hyperzzw_convolution"] == (1 if mode == "native" else 0)
    assert program.counts()[FFT] == (1 if mode == "fft" else 0)
    assert_close(program)
    assert_close(program, double(B + 3, 2, C, L))


def test_a_chain_and_a_shared_kernel():
    def function(k, x):
        spectrum = tf.rfft(k, n=N)
        y = _out(tf.rfft(x, n=N) * spectrum)[..., :L]
        return _out(tf.rfft(y * torch.tanh(x), n=N) * spectrum)[..., :L] + y

    program = capture_program(function, double(C, K), double(B, C, L), dynamic=False)
    program.run(*PASSES, convolution="fft")
    assert not transforms(program)
    assert program.counts()[FFT] == 2
    assert program.counts()[SPECTRUM] == 1
    assert_close(program, scale=30.0)  # the second convolution amplifies the error of the first by the kernel's norm


LONG = 4096


@pytest.mark.parametrize("passes", [PASSES, tuple(p.name for p in DEFAULT_PASSES)], ids=["alone", "all passes"])
def test_a_long_kernel_stays_a_transform_of_minimal_size_with_a_static_spectrum(passes):
    def function(k, x):
        n = 4 * LONG
        return _out(tf.rfft(x, n=n) * tf.rfft(k, n=n), n)[..., LONG // 2 : LONG // 2 + LONG]

    program = capture_program(function, double(2, LONG), double(B, 2, LONG), dynamic=False)
    program.run(*passes)
    assert program.counts()[FFT] == program.counts()[SPECTRUM] == 1
    (node,) = [n for n in program.module.graph.nodes if n.target is fft_convolution]
    assert node.kwargs["size"] == (good_size(LONG + LONG // 2),)
    if "hoist_static" in passes:
        assert node.args[1].meta["tzwc_binding"] == "static"
        assert "tzwc_cached" in node.args[1].meta
    assert_close(program)


def test_a_short_kernel_becomes_direct_and_nothing_else_is_slower():
    program = capture_program(
        lambda k, x: _out(tf.rfft(x, n=2 * LONG) * tf.rfft(k, n=2 * LONG), 2 * LONG)[..., :LONG],
        *(double(8, 3), double(4, 8, LONG)),
        dynamic=False,
    )
    stages = program.run(*PASSES)
    assert program.counts()["aten.conv1d.default"] == 1
    (remark,) = remarks(stages, "applied", "convolution")
    assert remark.numbers["native_us"] * 1.5 < remark.numbers["fft_us"]
    assert_close(program)


@pytest.mark.parametrize("mode", ["fft", "native"])
def test_one_nan_is_never_lost(mode):
    program = capture_program(DEPTHWISE["padded to 2L"], double(C, K), double(B, C, L), dynamic=False)
    program.run(*PASSES, convolution=mode)
    x = double(B, C, L)
    x[1, 1, 2] = math.nan
    lost = program.evaluate(x)[0].isnan()
    assert lost[1, 1, 2 : 2 + K].all()
    assert not lost[0].any()
    assert not lost[1, ::2].any()


@pytest.mark.parametrize("dynamic", [False, True])
def test_a_compiled_module(dynamic):
    class Long(nn.Module):
        def __init__(self):
            super().__init__()
            self.kernel = nn.Parameter(torch.randn(8, 256) / 16)
            self.skip = nn.Parameter(torch.randn(8, 1))

        def forward(self, x):
            k = tf.rfft(self.kernel, n=512) / 512
            return tf.irfft(tf.rfft(x, n=512) * k, n=512, norm="forward")[..., :256] + x * self.skip

    model = Long().eval()
    fast = tzwc.compile(model, backend="eager", dynamic=dynamic)
    with torch.no_grad():
        for batch in (3, 3, 5):
            x = torch.randn(batch, 8, 256)
            bound = 20 * torch.finfo(x.dtype).eps * 9 * x.norm(dim=-1).max() * model.kernel.norm(dim=-1).max()
            torch.testing.assert_close(fast(x), model(x), rtol=1e-6, atol=bound.item())
            assert any(n.target is fft_convolution for n in fast.stage("recognise_fft_convolution").graph.nodes)
        kept = [n for n in fast.stage("hoist_static").graph.nodes if "tzwc_cached" in n.meta]
        assert [n.target for n in kept] == [kernel_spectrum]
