"""Convolutions written with transforms are recognised in many spellings, and compute the same values and gradients."""

from __future__ import annotations

import math

import pytest
import torch
import torch.fft as tf
from torch import nn

import tzwc
from tests.support.fft_spellings import CASES, DENSE, DEPTHWISE, IN_THE_WILD, TWO, B, C, D, K, L, N, out
from tests.support.fft_testing import FFT, PASSES, SPECTRUM, assert_close, capture_program, transforms
from tests.support.pass_testing import double, remarks
from tzwc.ops import fft_convolution, good_size, kernel_spectrum
from tzwc.passes import DEFAULT_PASSES
from tzwc.passes.shared.sizes import shape_of


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
    *(
        "product by einsum",
        "spectrum unsqueezed",
        "one kernel for all",
        "operators of the library",
        "some channels",
        "rotated by the number of samples",
    ),
]
OPEN_CASES = [(n, DEPTHWISE[n], (C, K), (B, C, L)) for n in OPEN]
OPEN_CASES += [(f"dense, {n}", DENSE[n], (D, C, K), (B, C, L)) for n in ("einsum", "product and sum", "no sum")]
OPEN_CASES += IN_THE_WILD
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


def test_rotations_of_samples_and_channels_stay_around_the_convolution():
    def function(k, x):
        return tf.fftshift(out(tf.rfft(tf.fftshift(x), n=N) * tf.rfft(k, n=N)))[..., 1:]

    program = capture_program(function, double(C, K), double(B, C, L), dynamic=False)
    program.run(*PASSES, convolution="fft")
    assert transforms(program) == ["aten.fft_fftshift.default"]
    assert program.counts()["aten.fft_fftshift.default"] == 2
    assert program.counts()[FFT] == 1
    assert_close(program)


@pytest.mark.parametrize(
    "read",
    [
        lambda y, n: y[..., :n],
        lambda y, n: y[..., n:],
        lambda y, n: y.narrow(-1, 1, n),
        lambda y, n: y.narrow(-1, n, 3),
    ],
    ids=["to n", "from n", "n elements", "3 elements from n"],
)
def test_a_slice_of_open_bounds_reads_everything(read):
    def function(k, x):
        return read(out(tf.rfft(x, n=N) * tf.rfft(k, n=N)), x.shape[0])

    program = capture_program(function, double(C, K), double(B, C, L), dynamic=True)
    program.run(*PASSES)
    assert not transforms(program)
    assert_close(program)
    assert_close(program, double(B + 3, C, L))


@pytest.mark.parametrize("swapped", [False, True])
def test_the_factor_with_fewer_axes_is_the_kernel(swapped):
    """Which of two factors that both depend on the input: then one kernel serves all samples."""

    def function(k, x):
        values, taps = tf.rfft(x[..., :5], n=N), tf.rfft(x.mean((0, 1)) * k.sum(), n=N)
        return out(taps * values if swapped else values * taps)[..., :L]

    program = capture_program(function, double(C, K), double(B, C, L), dynamic=False)
    stages = program.run(*PASSES)
    assert "12 taps on 5" in remarks(stages, "applied", "convolution")[0].reason
    assert_close(program)


def test_one_kernel_a_sample():
    program = capture_program(
        lambda k, x: out(tf.rfft(x, n=N) * tf.rfft(torch.tanh(x * k[:, :1]), n=N))[..., :L],
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
        return out(tf.rfft(v, n=N) * tf.rfft(z * k, n=N))[..., :L]

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
        y = out(tf.rfft(x, n=N) * spectrum)[..., :L]
        return out(tf.rfft(y * torch.tanh(x), n=N) * spectrum)[..., :L] + y

    program = capture_program(function, double(C, K), double(B, C, L), dynamic=False)
    program.run(*PASSES, convolution="fft")
    assert not transforms(program)
    assert program.counts()[FFT] == 2
    assert program.counts()[SPECTRUM] == 1
    assert_close(program, scale=30.0)  # the second convolution amplifies the error of the first by the kernel's norm


LONG = 4096


@pytest.mark.parametrize("passes", [PASSES, tuple(p.name for p in DEFAULT_PASSES)], ids=["alone", "all passes"])
def test_a_long_kernel_stays_a_transform_of_minimal_size_with_a_static_spectrum(passes, prefer):
    prefer("fft")

    def function(k, x):
        n = 4 * LONG
        return out(tf.rfft(x, n=n) * tf.rfft(k, n=n), n)[..., LONG // 2 : LONG // 2 + LONG]

    program = capture_program(function, double(2, LONG), double(B, 2, LONG), dynamic=False)
    program.run(*passes)
    assert program.counts()[FFT] == program.counts()[SPECTRUM] == 1
    (node,) = [n for n in program.module.graph.nodes if n.target is fft_convolution]
    assert node.kwargs["size"] == (good_size(LONG + LONG // 2),)
    if "hoist_static" in passes:
        assert node.args[1].meta["tzwc_binding"] == "static"
        assert "tzwc_cached" in node.args[1].meta
    assert_close(program)


def test_a_short_kernel_becomes_direct(prefer):
    prefer("channels_last", "native", "fft")
    program = capture_program(
        lambda k, x: out(tf.rfft(x, n=2 * LONG) * tf.rfft(k, n=2 * LONG), 2 * LONG)[..., :LONG],
        *(double(8, 3), double(4, 8, LONG)),
        dynamic=False,
    )
    stages = program.run(*PASSES)
    assert program.counts()["aten.conv1d.default"] == 1
    (remark,) = remarks(stages, "applied", "convolution")
    assert remark.numbers["channels_last_predicted_us"] < remark.numbers["fft_predicted_us"]
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


def test_a_view_that_counts_on_contiguous_memory():
    program = capture_program(
        lambda k, x: torch.view_as_complex(out(tf.rfft(x, n=N) * tf.rfft(k, n=N)).view(B, C, L, 2)).abs(),
        *(double(C, K), double(B, C, L)),
        dynamic=False,
    )
    program.run("recognise_fft_convolution", convolution="fft")
    assert not transforms(program)
    assert_close(program)


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
