"""What almost is a HyperZ·Z·W operator or a convolution by transforms stays, and the remark says what is in the way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.fft as tf
import torch.nn.functional as F
from torch import Tensor

from tests.support.pass_testing import capture_function, double, remarks

B, C, N = 2, 3, 5


def _per_sample(k: Tensor, z: Tensor, v: Tensor, bias: Tensor | None = None, **options: int) -> Tensor:
    taps = (z * k).reshape(B * C, 1, N)
    return F.conv1d(v.reshape(1, B * C, 2 * N), taps, bias, groups=B * C, **options)


PRODUCTS: dict[str, tuple[Callable[..., Any], tuple[Tensor, ...], str]] = {
    "integers": (lambda k, z, v: (z * k) @ v + z, (torch.ones(B, N, N).long(),) * 3, "is not floating-point"),
    "one matrix": (lambda k, z, v: (z * k) @ v, (double(N, N),) * 3, "has 2 axes"),
    "a stride": (
        lambda k, z, v: _per_sample(k, z, v, stride=2),
        (double(C, N), double(B, C, N), double(B, C, 2 * N)),
        "stride",
    ),
    "a dilation": (
        lambda k, z, v: _per_sample(k, z, v, dilation=2),
        (double(C, N), double(B, C, N), double(B, C, 2 * N)),
        "dilation",
    ),
    "a bias": (
        lambda k, z, v, b: _per_sample(k, z, v, b),
        (double(C, N), double(B, C, N), double(B, C, 2 * N), double(B * C)),
        "has a bias",
    ),
    "transposed": (
        lambda k, z, v: torch.convolution(
            v.reshape(1, B * C, 2 * N), (z * k).reshape(B * C, 1, N), None, [1], [0], [1], True, [0], B * C
        ),
        (double(C, N), double(B, C, N), double(B, C, 2 * N)),
        "the convolution is transposed",
    ),
    "complex": (
        lambda k, z, v: _per_sample(k, z, v).real,
        tuple(torch.complex(double(*s), double(*s)) for s in ((C, N), (B, C, N), (B, C, 2 * N))),
        "is not floating-point",
    ),
    "one kernel for all samples": (
        lambda k, z, v: F.conv1d(v[:1], (z * k).unsqueeze(1), groups=C),
        (double(C, N), double(C, N), double(B, C, 2 * N)),
        "has not one kernel for each sample and channel",
    ),
    "reversed along one axis of two": (
        lambda k, z, v: F.conv2d(
            v.reshape(1, B * C, 2 * N, N), (z * k).reshape(B * C, 1, N, N).flip(-1), groups=B * C, padding=2
        ),
        (double(C, N, N), double(B, C, N, N), double(B, C, 2 * N, N)),
        "the taps are reversed along some axes only",
    ),
    "cropped values": (
        lambda k, z, v: _per_sample(k, z, F.pad(v.reshape(1, B * C, 2 * N), (1, -1))),
        (double(C, N), double(B, C, N), double(B, C, 2 * N)),
        "the values have not the samples and channels",
    ),
    "a scalar": (
        lambda z, v: F.conv1d(v, (z * 2.0).unsqueeze(1), groups=C),
        (double(C, N), double(B, C, 2 * N)),
        "tensor times a scalar",
    ),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_products(name: str) -> None:
    function, tensors, reason = PRODUCTS[name]
    program = capture_function(function, [], *tensors)
    stages = program.run("normalize", "cse", "fuse_hyperzzw")
    assert not any("hyperzzw" in call for call in program.counts())
    assert any(reason in remark.reason for remark in remarks(stages, "declined"))
    (found,) = program.evaluate(*tensors)
    assert torch.equal(found, program.model(*tensors))


NOT_MEANT: dict[str, tuple[Callable[..., Any], tuple[Tensor, ...]]] = {
    "kernels in reverse order": (
        lambda k, z, v: F.conv1d(v.reshape(1, B * C, 2 * N), (z * k).reshape(B * C, 1, N).flip(0), groups=B * C),
        (double(C, N), double(B, C, N), double(B, C, 2 * N)),
    ),
    "a cube": (lambda z: z * z * z, (double(B, C, N),)),
    "a gate of integers": (lambda k, z: z * k * z, (torch.ones(C, N).long(), torch.ones(B, C, N).long())),
}


@pytest.mark.parametrize("name", NOT_MEANT)
def test_what_is_not_meant_as_an_operator_is_left_without_a_word(name: str) -> None:
    function, tensors = NOT_MEANT[name]
    program = capture_function(function, [], *tensors)
    stages = program.run("normalize", "cse", "fuse_hyperzzw")
    assert not any("hyperzzw" in call for call in program.counts())
    assert not remarks(stages, "declined")
    (found,) = program.evaluate(*tensors)
    assert torch.equal(found, program.model(*tensors))


SPECTRA: dict[str, tuple[Callable[..., Tensor], str]] = {
    "other numbers of points": (
        lambda k, x: tf.irfft(tf.rfft(x, n=24) * tf.rfft(k, n=25), n=24),
        "points",
    ),
    "three spectra": (
        lambda k, x: tf.irfft(tf.rfft(x, n=24) * tf.rfft(k, n=24) * tf.rfft(x.cos(), n=24), n=24),
        "more than two spectra",
    ),
    "divided by a tensor": (
        lambda k, x: tf.irfft(tf.rfft(x, n=24) * tf.rfft(k, n=24) / x.sum(), n=24),
        "no real constant",
    ),
    "summed over frequencies": (
        lambda k, x: tf.irfft((tf.rfft(x, n=24) * tf.rfft(k, n=24)).sum(-1, keepdim=True).expand(B, C, 13), n=24),
        "sums over frequencies",
    ),
    "three operands": (
        lambda k, x: tf.irfft(
            torch.einsum("bcf,cf,cf->bcf", tf.rfft(x, n=24), tf.rfft(k, n=24), tf.rfft(k, n=24)), n=24
        ),
        "two operands",
    ),
}


@pytest.mark.parametrize("name", SPECTRA)
def test_spectra(name: str) -> None:
    function, reason = SPECTRA[name]
    tensors = double(C, 9), double(B, C, 12)
    program = capture_function(function, tensors[:1], tensors[1])
    stages = program.run("recognise_fft_convolution", convolution="fft")
    assert any(reason in remark.reason for remark in remarks(stages, "declined"))
    (found,) = program.evaluate(tensors[1])
    assert torch.equal(found, program.model(tensors[1]))
