from __future__ import annotations

import functools
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import tzwc.bench.cache.cache
import tzwc.bench.model.run
import tzwc.targets
from tests.support.bench_models import FAKE
from tests.support.written_weights import Written
from tzwc.models import terminator
from tzwc.targets import InputSpec


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


@pytest.fixture
def pids(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Processes that only pretend, and leave their numbers in this folder."""
    folder = tmp_path / "pids"
    folder.mkdir()
    monkeypatch.setenv("PIDS", str(folder))
    monkeypatch.setattr(tzwc.bench.model.run, "_COMMAND", (sys.executable, "-c", FAKE))
    return folder
