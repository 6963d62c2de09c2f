from __future__ import annotations

import functools
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

import tzwc.bench.cache.cache
import tzwc.targets
from tzwc.models import terminator
from tzwc.targets import InputSpec


class Written(nn.Module):
    """The weights are written by a layer from a code: all that can become stale."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.code = nn.Parameter(torch.randn(3))
        self.write = nn.Linear(3, 16)

    def forward(self, x: Tensor) -> Tensor:
        weight: Tensor = self.write(self.code)
        return x @ weight.view(4, 4)


@pytest.fixture(autouse=True)
def _small_and_quiet(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Presets with one block, and one thread."""
    monkeypatch.setattr(tzwc.targets, "terminator", functools.partial(terminator, factors=(12,)))
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def _written(monkeypatch: pytest.MonkeyPatch) -> None:
    """The smallest model of all in place of every preset."""
    monkeypatch.setattr(tzwc.bench.cache.cache, "resolve", lambda _: Written())
    monkeypatch.setattr(tzwc.bench.cache.cache, "default_inputs", lambda _: [InputSpec((1, 4))])
