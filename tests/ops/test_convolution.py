"""FFT and direct convolution agree with ``torch.nn.functional``, in values and in gradients."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from tzwc.errors import InvalidArgumentError
from tzwc.ops import (
    fft_convolution,
    fft_size,
    good_size,
    kernel_spectrum,
    normalize_padding,
)

CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


def reference(x, weight, bias, padding, stride, groups):
    flat = [zeros for pair in reversed(padding) for zeros in pair]
    return CONV[weight.dim() - 2](F.pad(x, flat), weight, bias, stride, groups=groups)


def bound(x, weight, size):
    """Highest error of an FFT convolution: 8 eps log2(n) ‖x‖₂ ‖w‖₂ with the norms over everything that is summed."""
    eps = torch.finfo(torch.promote_types(x.dtype, torch.float32)).eps
    return 8 * eps * max(math.log2(math.prod(size)), 1) * x.norm().item() * weight.norm().item() + 1e-300


@st.composite
def problems(draw):
    axes = draw(st.sampled_from([1, 1, 2, 3]))
    longest = {1: 24, 2: 8, 3: 4}[axes]
    lengths = [draw(st.integers(1, longest)) for _ in range(axes)]
    kernel = [draw(st.integers(1, longest + 3)) for _ in range(axes)]
    padding = []
    for length, taps in zip(lengths, kernel, strict=True):
        left, right = draw(st.integers(0, taps + 1)), draw(st.integers(0, taps + 1))
        padding.append((left, max(right, taps - length - left)))
    stride = [draw(st.sampled_from([1, 1, 1, 2, 3])) for _ in range(axes)]
    groups, fan_in, multiplier = (draw(st.integers(1, 3)) for _ in range(3))
    return lengths, kernel, tuple(padding), stride, groups, fan_in, multiplier, draw(st.integers(0, 2**31))


def tensors(lengths, kernel, groups, fan_in, multiplier, seed, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(2, groups * fan_in, *lengths, generator=generator, dtype=torch.float64)
    weight = torch.randn(groups * multiplier, fan_in, *kernel, generator=generator, dtype=torch.float64)
    bias = torch.randn(groups * multiplier, generator=generator, dtype=torch.float64)
    return [t.to(dtype).requires_grad_() for t in (x, weight, bias)]


@settings(max_examples=40, deadline=None)
@given(problems())
def test_fft_agrees_with_torch(problem):
    lengths, kernel, padding, stride, groups, *rest = problem
    x, weight, bias = tensors(lengths, kernel, groups, *rest)
    size = [fft_size(*axis) for axis in zip(lengths, kernel, padding, strict=True)]
    found = fft_convolution(
        x,
        kernel_spectrum(weight, size),
        bias,
        kernel_size=kernel,
        size=size,
        padding=padding,
        stride=stride,
        groups=groups,
    )
    expected = reference(x, weight, bias, padding, stride, groups)
    tolerance = bound(x, weight, size)
    torch.testing.assert_close(found, expected, rtol=1e-15, atol=tolerance)
    seed = torch.randn_like(expected.detach())
    ours = torch.autograd.grad(found, (x, weight, bias), seed)
    theirs = torch.autograd.grad(expected, (x, weight, bias), seed)
    for a, b, left, right in zip(ours, theirs, (seed, seed, seed), (weight, x, bias), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-13, atol=bound(left, right, size))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_narrow_dtypes_are_transformed_in_float32(dtype):
    x, weight, _ = tensors([40], [31], 3, 1, 1, 0, dtype)
    size = (fft_size(40, 31, (15, 15)),)
    spectrum = kernel_spectrum(weight[:, 0], size)
    assert spectrum.dtype == torch.complex64
    found = fft_convolution(x, spectrum, kernel_size=(31,), size=size, padding=((15, 15),))
    assert found.dtype == dtype
    exact = F.conv1d(x.double(), weight.double(), padding=15, groups=3)
    rounding = torch.finfo(dtype).eps * exact.abs().max().item()
    torch.testing.assert_close(found.double(), exact, rtol=0, atol=bound(x, weight, size) + rounding)


def test_one_kernel_a_sample():
    x = torch.randn(3, 2, 10, dtype=torch.float64)
    weight = torch.randn(3, 2, 10, dtype=torch.float64)
    padding = normalize_padding("causal", (10,))
    size = (fft_size(10, 10, padding[0]),)
    found = fft_convolution(
        x, kernel_spectrum(weight, size, reverse=False), kernel_size=(10,), size=size, padding=padding
    )
    expected = torch.stack([sum(weight[..., j] * F.pad(x, (j, 0))[..., t] for j in range(10)) for t in range(10)], -1)
    torch.testing.assert_close(found, expected, rtol=0, atol=bound(x, weight, size))


def test_gradcheck():
    x = torch.randn(1, 4, 6, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(4, 2, 4, dtype=torch.float64, requires_grad=True)
    size = (fft_size(6, 4, (1, 2)),)

    def function(x, weight):
        spectrum = kernel_spectrum(weight, size)
        return fft_convolution(x, spectrum, kernel_size=(4,), size=size, padding=((1, 2),), groups=2)

    assert torch.autograd.gradcheck(function, (x, weight), fast_mode=True)
    assert torch.autograd.gradgradcheck(function, (x, weight), fast_mode=True)


def test_nan_spreads_over_its_channel_only():
    x = torch.zeros(1, 2, 16)
    x[0, 0, 3] = math.nan
    size = (fft_size(16, 3, (1, 1)),)
    found = fft_convolution(x, kernel_spectrum(torch.ones(2, 3), size), kernel_size=(3,), size=size, padding=((1, 1),))
    assert found[0, 0].isnan().all()
    assert not found[0, 1].isnan().any()


@given(st.integers(1, 3000), st.booleans())
@settings(deadline=None)
def test_good_size_is_the_smallest(minimum, even):
    def good(n):
        rest = n
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        return rest == 1 and (n % 2 == 0 or not even)

    found = good_size(minimum, even=even)
    assert found == next(n for n in range(max(minimum, 1), 2 * minimum + 3) if good(n))


def test_size_for_same_padding_is_minimal():
    for length in (1, 7, 64, 100):
        for kernel in (1, 2, 9, 64, 255):
            (padding,) = normalize_padding("same", (kernel,))
            assert fft_size(length, kernel, padding) == good_size(max(length + kernel // 2, kernel))


@pytest.mark.parametrize(
    ("padding", "expected"),
    [("same", ((1, 2), (2, 2))), ("valid", ((0, 0), (0, 0))), ("causal", ((3, 0), (4, 0))), ([2], ((2, 2), (2, 2)))],
)
def test_padding_spellings(padding, expected):
    assert normalize_padding(padding, (4, 5)) == expected


@pytest.mark.parametrize("padding", ["reflect", [1, 2, 3], [-1]])
def test_bad_padding_is_named(padding):
    with pytest.raises(InvalidArgumentError, match="padding="):
        normalize_padding(padding, (4, 5))


def test_a_size_that_wraps_around_is_refused():
    with pytest.raises(InvalidArgumentError, match="wraps around"):
        fft_convolution(torch.zeros(1, 1, 8), torch.zeros(1, 5), kernel_size=(5,), size=(8,), padding=((2, 2),))
    with pytest.raises(InvalidArgumentError, match="shorter than the kernel"):
        kernel_spectrum(torch.zeros(1, 9), (8,))
