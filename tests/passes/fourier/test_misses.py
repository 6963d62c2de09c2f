"""What looks like a convolution by transforms and is none, or not provably, stays bit for bit as it was."""

from __future__ import annotations

import pytest
import torch
import torch.fft as tf
import torch.nn.functional as F

from tests.support.fft_testing import FFT, PASSES, assert_close, capture_program, transforms
from tests.support.pass_testing import as_tuple, double, gradients, remarks

B, C, L, K = 2, 3, 12, 9
N = 2 * L


def _product(k, x, n=N):
    return tf.rfft(x, n=n) * tf.rfft(k, n=n)


def _written(k, x):
    y = x + 1
    row = y[:, 0]
    result = tf.irfft(_product(k, y), n=N)[..., :L]
    row.zero_()
    return result + y.mean()


def _result_written(k, x):
    y = tf.irfft(_product(k, x), n=N)
    part = y[..., :L]
    y.mul_(2)
    return part


def _spectrum_returned(k, x):
    spectrum = tf.rfft(x, n=N)
    return tf.irfft(spectrum * tf.rfft(k, n=N), n=N)[..., :L], spectrum.abs()


def _shared_input(k, x):
    spectrum = tf.rfft(x, n=N)
    return [tf.irfft(spectrum * tf.rfft(t, n=N), n=N)[..., :L] for t in (k, k + 1)]


def _bidirectional(k, x):
    taps = F.pad(k, (0, N - K)) + F.pad(k.flip(-1), (N - K, 0))
    return tf.irfft(tf.rfft(x, n=N) * tf.rfft(taps, n=N), n=N)[..., :L]


DECLINED = {
    "circular": (lambda k, x: tf.irfft(_product(k, x, L), n=L), "12 values and 9 taps on 12 points wrap around"),
    "one point too few": (lambda k, x: tf.irfft(_product(k, x, 19), n=19), "wrap around into what is read"),
    "wrapped head is read": (lambda k, x: tf.irfft(_product(k, x, 16), n=16)[..., 3:], "wrap around"),
    "valid, one element too early": (lambda k, x: tf.irfft(_product(k, x, L), n=L)[..., K - 2 :], "wrap around"),
    "wrapped on purpose": (_bidirectional, "wrap around"),
    "lags of both signs": (
        lambda k, x: tf.irfft(tf.rfft(x, n=N) * tf.rfft(k, n=N).conj(), n=N),
        "runs over the end of the linear convolution",
    ),
    "nothing but zeros": (lambda k, x: tf.irfft(_product(k, x, 32), n=32)[..., 24:], "is zero"),
    "odd, no n": (lambda k, x: tf.irfft(_product(k, x, 21))[..., :L], "makes [20] points of transforms of [21], since"),
    "odd, complex, no n": (
        lambda k, x: tf.irfft(tf.fft(x, n=21) * tf.fft(k, n=21))[..., :L],
        "makes [40] points of transforms of [21]",
    ),
    "another n": (lambda k, x: tf.irfft(_product(k, x), n=N + 2)[..., :L], "makes [26] points of transforms of [24]"),
    "n differ": (
        lambda k, x: tf.irfft(tf.rfft(x, n=N) * tf.rfft(k, n=N + 1), n=N)[..., :L],
        "transforms of [24] and [25] points",
    ),
    "input with itself": (
        lambda k, x: tf.irfft(_product(x, x), n=N)[..., :L] + k.mean(),
        "both factors are transforms of inputs_0",
    ),
    "power spectrum": (
        lambda k, x: tf.irfft(tf.rfft(x, n=N) * tf.rfft(x, n=N).conj(), n=N)[..., :L] * k.mean(),
        "both factors are transforms of inputs_0",
    ),
    "three spectra": (
        lambda k, x: tf.irfft(_product(k, x) * tf.rfft(k.tanh(), n=N), n=N)[..., :L],
        "more than two spectra",
    ),
    "filter": (
        lambda k, x: tf.irfft(tf.rfft(x, n=N) * torch.view_as_complex(k[:, :2].repeat(1, 13).view(C, 13, 2)), n=N),
        "view_as_complex is not made of transforms",
    ),
    "window of frequencies": (
        lambda k, x: tf.irfft(_product(k, x)[..., :8], n=N)[..., :L],
        "slice_1 is not made of transforms",
    ),
    "one transform": (lambda k, x: tf.irfft(tf.rfft(x, n=N), n=N) + k.mean(), "alone, not a product"),
    "phase only": (
        lambda k, x: tf.irfft(_product(k, x) / (tf.rfft(k, n=N).abs() + 1), n=N)[..., :L],
        "which is no real constant",
    ),
    "sum of spectra": (
        lambda k, x: tf.irfft(_product(k, x) + tf.rfft(x, n=N), n=N)[..., :L],
        "add is not made of transforms",
    ),
    "other axis": (
        lambda k, x: tf.irfft(tf.rfft(x.mT, n=N, dim=1) * tf.rfft(k.mT, n=N, dim=0), n=N, dim=1)[:, :L],
        "transforms the axes [1] of 3, not the last ones",
    ),
    "spectrum returned": (_spectrum_returned, "is used by abs_1 as well"),
    "transform of the input shared": (_shared_input, "shared with another convolution"),
    "input written": (_written, "writes to"),
    "result written": (_result_written, "writes to"),
    "complex result": (
        lambda k, x: tf.ifft(tf.fft(x, n=N) * tf.fft(k, n=N)).abs()[..., :L],
        "is used, not only its real part",
    ),
    "complex input": (
        lambda k, x: tf.ifft(tf.fft(x * 1j, n=N) * tf.fft(k, n=N)).real[..., :L],
        "is not a real floating-point tensor",
    ),
    "other dtype": (
        lambda k, x: tf.irfft(tf.rfft(x, n=N) * tf.rfft(k.float(), n=N), n=N)[..., :L],
        "torch.float32",
    ),
    "sum over samples": (
        lambda k, x: tf.irfft(_product(k, x).sum(0), n=N)[..., :L],
        "sums over an axis that the two spectra do not share",
    ),
    "sum over frequencies": (
        lambda k, x: tf.irfft(_product(k, x).sum(-1, keepdim=True) * tf.rfft(k, n=N), n=N),
        "sums over frequencies",
    ),
    "channels regrouped": (
        lambda k, x: tf.irfft(_product(k, x).reshape(-1, 13), n=N)[..., :L],
        "regroups the axes of a spectrum",
    ),
    "inverse over fewer axes": (
        lambda k, x: tf.irfft(tf.rfft2(x, s=(4, N)) * tf.rfft2(k, s=(4, N)), n=N),
        "makes [24] points of transforms of [4, 24]",
    ),
    "half times whole": (
        lambda k, x: tf.irfft(tf.rfft(x[..., :1], n=2) * tf.fft(k[..., :1], n=2), n=2),
        "multiplies half of a spectrum and a whole one",
    ),
    "frequencies against channels": (
        lambda k, x: tf.irfft(tf.rfft(x, n=4).mT * tf.rfft(k, n=4), n=4),
        "multiplies axes that do not belong together",
    ),
    "all pairs of frequencies": (
        lambda k, x: tf.irfft(tf.rfft(x[0, 0], n=N).unsqueeze(-1) * tf.rfft(k[0], n=N), n=N),
        "multiplies axes that do not belong together",
    ),
    "vector": (lambda k, x: tf.irfft(tf.rfft(x[:, 0], n=N) @ tf.rfft(k[0], n=N), n=N), "multiplies a vector"),
    "diagonal": (
        lambda k, x: tf.irfft(torch.einsum("bcf,ccf->bcf", tf.rfft(x, n=N), tf.rfft(k.expand(C, C, K), n=N)), n=N)[
            ..., :L
        ],
        "takes a diagonal",
    ),
    "complex factor": (lambda k, x: tf.irfft(_product(k, x) * 1j, n=N)[..., :L], "1j is no spectrum"),
    "factors whose product overflows": (
        lambda k, x: tf.irfft((tf.rfft(x * 1e-200, n=N) * 1e200) * (tf.rfft(k * 1e-200, n=N) * 1e200), n=N)[..., :L],
        "inf in front of the convolution is no normal number of float64",
    ),
    "factors whose product vanishes": (
        lambda k, x: tf.irfft((tf.rfft(x * 1e200, n=N) * 1e-200) * (tf.rfft(k * 1e200, n=N) * 1e-200), n=N)[..., :L],
        "0.0 in front of the convolution is no normal number of float64",
    ),
    "nothing is read": (lambda k, x: tf.irfft(_product(k, x), n=N)[..., 5:5], "is empty"),
    "one point": (lambda k, x: tf.irfft(_product(k, x, 2)[..., :1], n=1), "has fewer than two points"),
    "inverse over another axis": (
        lambda k, x: tf.ifft((tf.fft(x, n=C) * tf.fft(k, n=C)).mT, n=C).real,
        "does not transform the axes of the signals back",
    ),
    "product repeated": (
        lambda k, x: tf.irfft(_product(k, x).unsqueeze(1).expand(B, 4, C, 13), n=N)[..., :L],
        "repeats the product along an axis",
    ),
    "half for a whole": (
        lambda k, x: tf.ifft(tf.rfft(x, n=N) * tf.rfft(k, n=N), n=N).real[..., :L],
        "takes half of a spectrum for a whole one",
    ),
}


@pytest.mark.parametrize("name", DECLINED)
def test_near_misses_are_declined_and_kept(name):
    function, reason = DECLINED[name]
    x = double(B, C, L)
    program = capture_program(function, double(C, K), x, dynamic=False)
    before = capture_program(function, program.model.weights[0].detach(), x, dynamic=False)
    before.run("normalize", "cse")
    stages = program.run(*PASSES, convolution="fft")
    assert not program.counts()[FFT]
    assert transforms(program)
    declined = remarks(stages, "declined", "convolution")
    assert declined
    assert all(reason in r.reason for r in declined), declined
    assert [str(n) for n in program.module.graph.nodes] == [str(n) for n in before.module.graph.nodes]
    leaf = x.clone().requires_grad_()
    found, expected = as_tuple(program.evaluate(leaf)), as_tuple(before.evaluate(leaf))
    pairs = zip(found, expected, as_tuple(program.model(leaf)), strict=True)
    assert all(torch.equal(a, b) and torch.equal(a, c) for a, b, c in pairs)
    if "written" not in name:  # autograd itself refuses these; `cse` adds up in another order than eager
        for a, b in zip(gradients(found, [leaf]), gradients(expected, [leaf]), strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_a_transform_without_a_product_is_passed_over_in_silence():
    program = capture_program(
        lambda k, x: tf.irfft(torch.complex(k, k), n=L) + x, double(C, 7), double(B, C, L), dynamic=False
    )
    assert not remarks(program.run(*PASSES))


def test_native_where_there_is_no_direct_form():
    size = (6,) * 4
    program = capture_program(
        lambda k, x: tf.irfftn(
            tf.rfftn(x, s=size, dim=(-4, -3, -2, -1)) * tf.rfftn(k, s=size, dim=(-4, -3, -2, -1)),
            s=size,
            dim=(-4, -3, -2, -1),
        ),
        *(double(2, 3, 3, 3, 3), double(2, 2, 4, 4, 4, 4)),
        dynamic=False,
    )
    (remark,) = remarks(program.run(*PASSES, convolution="native"))
    assert "torch has no direct form" in remark.reason
    program.run("recognise_fft_convolution")
    assert not transforms(program)
    assert_close(program)
