"""The three forms against their defining sums."""

from __future__ import annotations

import pytest
import torch

from tzwc.errors import InvalidArgumentError
from tzwc.ops import hyperzzw_convolution, hyperzzw_dot, hyperzzw_gate


def _leaf(*shape):
    return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def test_dot_is_its_sum():
    z, kernel, values = _leaf(2, 3, 4, 5), _leaf(1, 3, 4, 5), [_leaf(2, 3, 5, 6) for _ in range(2)]
    results = hyperzzw_dot(z, kernel, *values)
    for value, result in zip(values, results, strict=True):
        expected = torch.zeros(2, 3, 4, 6, dtype=torch.float64)
        for k in range(5):
            expected += (z * kernel)[..., k, None] * value[..., None, k, :]
        torch.testing.assert_close(result, expected)
    assert torch.autograd.gradcheck(lambda *t: hyperzzw_dot(*t), (z, kernel, *values))


def test_a_given_product_is_taken():
    z, kernel, value = _leaf(2, 3, 4, 4), _leaf(1, 3, 4, 4), _leaf(2, 3, 4, 4)
    (expected,) = hyperzzw_dot(z, kernel, value)
    (found,) = hyperzzw_dot(z, kernel, value, product=z * kernel)
    assert torch.equal(found, expected)


@pytest.mark.parametrize("reverse", [False, True])
def test_convolution_is_its_sum(reverse):
    z, kernel, value = _leaf(2, 3, 5), _leaf(1, 3, 5), _leaf(2, 3, 6)
    taps = (z * kernel).flip(-1) if reverse else z * kernel
    (found,) = hyperzzw_convolution(z, kernel, value, padding=((3, 1),), reverse=reverse)
    expected = torch.zeros(2, 3, 6, dtype=torch.float64)
    for t in range(6):
        for j in range(5):
            if 0 <= t + j - 3 < 6:
                expected[..., t] += (taps[..., j] * value[..., t + j - 3]).detach()
    torch.testing.assert_close(found, expected)
    assert torch.autograd.gradcheck(
        lambda *t: hyperzzw_convolution(*t, padding=((3, 1),), reverse=reverse), (z, kernel, value)
    )


def test_causal_convolution_does_not_look_ahead():
    z, kernel, value = _leaf(1, 1, 8), _leaf(1, 1, 8), _leaf(1, 1, 8)
    (found,) = hyperzzw_convolution(z, kernel, value, padding=((7, 0),), reverse=True)
    for tensor in torch.autograd.grad(found[..., 3].sum(), (z, value)):
        assert tensor[..., 4:].count_nonzero() == 0


def test_gate_is_its_product_and_broadcasts():
    kernel, z = _leaf(1, 1, 4), _leaf(3, 2, 4)
    torch.testing.assert_close(hyperzzw_gate(kernel, z), kernel * z**2)
    assert torch.autograd.gradcheck(hyperzzw_gate, (kernel, z))


def test_unusable_values_are_named():
    z = _leaf(2, 3, 4, 4)
    with pytest.raises(InvalidArgumentError, match="at least one"):
        hyperzzw_dot(z, z)
    with pytest.raises(InvalidArgumentError, match="one shape"):
        hyperzzw_dot(z, z, z, z[..., :2])
    with pytest.raises(InvalidArgumentError, match="leading sizes"):
        hyperzzw_convolution(z, z, z[:1], padding=((0, 0), (0, 0)))
