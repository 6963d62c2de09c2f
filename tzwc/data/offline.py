"""Real and procedural data that need no network: scikit-learn's digits, and MNIST-1D from its package."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from tzwc.data.dataset import Dataset, Split
from tzwc.data.files import DataError

__all__ = ["digits", "mnist1d"]

_HELD_OUT = 384


def digits() -> Dataset:
    """The 1,797 handwritten digits that scikit-learn ships, ``(n 1 8 8)`` in ``[0, 1]``; 384 held out, always alike.

    Raises:
        DataError: scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise DataError("the digits come with scikit-learn: pip install 'tzwc[train]'") from error
    bunch = load_digits()
    images = torch.tensor(bunch.images, dtype=torch.float32).unsqueeze(1) / 16
    labels = torch.tensor(bunch.target)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    train, test = order[_HELD_OUT:], order[:_HELD_OUT]
    return Dataset("digits", Split(images[train], labels[train]), Split(images[test], labels[test]), 10)


def mnist1d() -> Dataset:
    """MNIST-1D: 4,000 and 1,000 sequences ``(n 1 40)``, made by the package ``mnist1d`` with its default arguments.

    They are computed here, from the package's own seed; its downloaded file is a pickle and is not used.

    Raises:
        DataError: the package is not installed.
    """
    try:
        import numpy
        from mnist1d.data import get_dataset_args, make_dataset
    except ImportError as error:
        raise DataError("these sequences are made by the package mnist1d: pip install 'tzwc[train]'") from error
    # The package seeds and uses the global generators.
    states = random.getstate(), numpy.random.get_state()
    try:
        made: dict[str, Any] = make_dataset(SimpleNamespace(**get_dataset_args(as_dict=True)))
    finally:
        random.setstate(states[0])
        numpy.random.set_state(states[1])

    def values(name: str) -> Tensor:
        return torch.tensor(made[name], dtype=torch.float32).unsqueeze(1)

    def labels(name: str) -> Tensor:
        return torch.tensor(made[name], dtype=torch.int64)

    return Dataset("mnist1d", Split(values("x"), labels("y")), Split(values("x_test"), labels("y_test")), 10)
