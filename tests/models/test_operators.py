"""The three forms of the operator against their definitions, written with explicit loops."""

from __future__ import annotations

import itertools
import warnings

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tzwc.errors import InvalidArgumentError
from tzwc.models import convolution, dot_product, gate
from tzwc.models.operators import convolve


def tensors(*shape: int, count: int = 3) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(*shape, generator=generator, dtype=torch.float64, requires_grad=True) for _ in range(count)]


def loops(weight: Tensor, value: Tensor, padding: str) -> Tensor:
    """The definition: one sum for every output position."""
    grid, taps = value.shape[2:], weight.shape[2:]
    result = torch.zeros_like(value)
    for i in itertools.product(*map(range, grid)):
        for t in itertools.product(*map(range, taps)):
            if padding == "same":
                j = tuple(a + b - (n - 1) // 2 for a, b, n in zip(i, t, taps, strict=True))
            else:
                j = tuple(a - b for a, b in zip(i, t, strict=True))
            if all(0 <= a < n for a, n in zip(j, grid, strict=True)):
                result[(..., *i)] += weight[(..., *t)] * value[(..., *j)]
    return result


@pytest.mark.parametrize("padding", ["same", "causal"])
@given(grid=st.lists(st.integers(1, 5), min_size=1, max_size=2), data=st.data())
def test_convolution_is_its_definition(padding: str, grid: list[int], data: st.DataObject) -> None:
    taps = [data.draw(st.integers(1, 6)) for _ in grid]
    (weight,) = tensors(2, 3, *taps, count=1)
    (value,) = tensors(2, 3, *grid, count=1)
    torch.testing.assert_close(convolve(weight, value, padding), loops(weight.detach(), value.detach(), padding))


def test_same_is_the_alignment_of_torch() -> None:
    weight, value, _ = (t.detach() for t in tensors(1, 1, 6))
    with warnings.catch_warnings():
        # PyTorch says only once in a process that even kernels need a copy of the input.
        warnings.filterwarnings("ignore", message=".*even kernel")
        expected = torch.nn.functional.conv1d(value, weight, padding="same")
    torch.testing.assert_close(convolve(weight, value), expected)


def test_dot_product_is_its_definition() -> None:
    z, kernel, value = tensors(2, 3, 4, 4)
    expected = torch.einsum("bcik,bckj->bcij", z * kernel[:1], value)
    torch.testing.assert_close(dot_product(z, kernel[:1], value), expected)


def test_gate_is_its_definition() -> None:
    kernel, z, _ = tensors(1, 5)
    assert torch.equal(gate(kernel, z), z * kernel * z)


@pytest.mark.parametrize("position", range(1, 7))
def test_causal_never_reads_the_future(position: int) -> None:
    """Outputs before ``position`` do not depend on activations or values from ``position`` on."""
    z, kernel, value = tensors(1, 2, 7)
    result = convolution(z, kernel, value, "causal")
    before = result[..., :position].sum()
    for gradient in torch.autograd.grad(before, (z, value)):
        assert torch.count_nonzero(gradient[..., position:]) == 0
        assert torch.count_nonzero(gradient[..., 0]) > 0


def test_a_correlation_would_read_the_future() -> None:
    """Why ``causal`` flips the weight: padded on the left but not flipped, ``Y[0]`` depends on the last activation."""
    z, kernel, value = tensors(1, 1, 7)
    padded = torch.nn.functional.pad(value, (6, 0))
    first = torch.nn.functional.conv1d(padded, z * kernel)[..., 0]
    assert torch.autograd.grad(first.sum(), z)[0][..., -1] != 0


@pytest.mark.parametrize("padding", ["same", "causal"])
def test_gradients(padding: str) -> None:
    for shape in ((2, 2, 4), (1, 2, 2, 3)):
        z, kernel, value = tensors(*shape)
        torch.autograd.gradcheck(lambda z, k, v: convolution(z, k, v, padding), (z, kernel, value))


def test_errors() -> None:
    z, kernel, value = tensors(1, 1, 4)
    with pytest.raises(InvalidArgumentError, match="did you mean 'causal'"):
        convolution(z, kernel, value, "casual")
    with pytest.raises(InvalidArgumentError, match="expected both"):
        convolution(z[0], kernel[0], value[0])
