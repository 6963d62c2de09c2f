"""Data that need no files."""

from __future__ import annotations

import random

import pytest
import torch

from tzwc.data import DataError, Normalisation, load
from tzwc.errors import InvalidArgumentError


def test_digits_are_split_alike_every_time() -> None:
    first, second = load("digits"), load("digits")
    assert first.train.inputs.shape == (1413, 1, 8, 8)
    assert first.test.inputs.shape == (384, 1, 8, 8)
    everything = torch.cat([first.train.inputs, first.test.inputs])
    assert (everything.min().item(), everything.max().item()) == (0.0, 1.0)
    assert torch.equal(first.test.inputs, second.test.inputs)
    assert len(everything.flatten(1).unique(dim=0)) == 1797


def test_sequences_are_the_same_pixels() -> None:
    images, rows, permuted = load("digits"), load("sdigits"), load("pdigits")
    assert torch.equal(rows.train.inputs, images.train.inputs.flatten(2))
    assert torch.equal(rows.train.labels, images.train.labels)
    # One order for all samples of both splits.
    order = torch.randperm(64, generator=torch.Generator().manual_seed(0))
    assert torch.equal(permuted.train.inputs, rows.train.inputs[..., order])
    assert torch.equal(permuted.test.inputs, rows.test.inputs[..., order])
    assert not torch.equal(permuted.test.inputs, rows.test.inputs)


def test_mnist1d_leaves_the_generators_alone() -> None:
    numpy = pytest.importorskip("numpy")
    pytest.importorskip("mnist1d")
    random.seed(3)
    numpy.random.seed(3)
    expected = random.random(), numpy.random.rand()
    random.seed(3)
    numpy.random.seed(3)
    first = load("mnist1d")
    assert (random.random(), numpy.random.rand()) == expected
    assert first.train.inputs.shape == (4000, 1, 40)
    assert first.test.inputs.shape == (1000, 1, 40)
    everything = torch.cat([first.train.inputs, first.test.inputs])
    assert abs(everything.mean().item()) < 1e-5
    assert abs(everything.std().item() - 1) < 1e-3
    assert sorted(first.test.labels.unique().tolist()) == list(range(10))


def test_another_grid() -> None:
    larger = load("digits").resized((16, 16))
    assert larger.grid == (16, 16)
    assert larger.train.inputs.shape == (1413, 1, 16, 16)
    assert load("sdigits").resized((32,)).grid == (32,)
    with pytest.raises(InvalidArgumentError, match=r"sizes = \(16,\): expected 2 positive"):
        load("digits").resized((16,))


def test_normalisation_is_per_channel() -> None:
    inputs = torch.randint(256, (7, 3, 4, 4), dtype=torch.uint8)
    inputs[:, 2] = 5  # never changes
    normalise = Normalisation.of(inputs)
    values = normalise(inputs, torch.float64)
    torch.testing.assert_close(values.mean((0, 2, 3)), torch.zeros(3, dtype=torch.float64), rtol=0, atol=1e-12)
    spread = values.std((0, 2, 3), unbiased=False)
    torch.testing.assert_close(spread, torch.tensor([1, 1, 0], dtype=torch.float64), rtol=0, atol=1e-12)
    assert torch.equal(Normalisation()(inputs, torch.float64), inputs.double() / 255)


def test_unknown_names_and_missing_folders() -> None:
    with pytest.raises(InvalidArgumentError, match=r"data = 'digit'.*did you mean 'digits'"):
        load("digit")
    with pytest.raises(DataError, match=r"cifar10: .*--data DIR"):
        load("cifar10")
