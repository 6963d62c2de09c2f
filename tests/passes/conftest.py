"""Fixtures of the tests of passes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from tests.support.merge_testing import as_on_a_gpu
from tzwc.autotune.cost_model import CostModel

__all__ = ["as_on_a_gpu", "prefer"]


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture
def prefer(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """A stand-in for the cost model: the algorithms named are the fastest, in this order; all others are slow."""

    def set_order(*names: str) -> None:
        def predict(_model: CostModel, _problem: object, name: str) -> float:
            return 1.0 + names.index(name) if name in names else (10.0 if name == "native" else 20.0)

        monkeypatch.setattr(CostModel, "predict", predict)

    return set_order
