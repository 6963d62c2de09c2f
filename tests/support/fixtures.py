"""Fixtures that tests of several folders use."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest
import torch

import tzwc.dynamo
from tests.support.dynamo_testing import left_over
from tests.support.fake_timer import make_quiet
from tests.support.watch_twins import BUILD_SECONDS, Twin
from tzwc.cross_compile import Process
from tzwc.native.loader import extension


@pytest.fixture(scope="session")
def native() -> Twin:
    if not extension.wait(BUILD_SECONDS):
        pytest.skip(f"no native watches: {extension.reason}")
    return Twin(extension.module)


@pytest.fixture(params=["python", "native", "lockstep"])
def dict_twin(request: pytest.FixtureRequest) -> Twin:
    if request.param == "python":
        return Twin()
    return Twin(request.getfixturevalue("native").module, lockstep=request.param == "lockstep")


@pytest.fixture(params=["python", "native"])
def twin(request: pytest.FixtureRequest) -> Twin:
    return Twin() if request.param == "python" else request.getfixturevalue("native")


@pytest.fixture(scope="session")
def compiler() -> Iterator[Process]:
    """A process that believes in a GPU, started once: it takes seconds to import PyTorch and Triton."""
    with Process("lower") as process:
        yield process


@pytest.fixture(scope="session")
def interpreter() -> Iterator[Process]:
    with Process("run") as process:
        yield process


@pytest.fixture
def fresh_dynamo() -> Iterator[None]:
    """Dynamo as if nothing had been compiled yet."""
    torch._dynamo.reset()
    gc.collect()
    left_over[:] = tzwc.dynamo.compiled_graphs()
    yield
    torch._dynamo.reset()
    left_over.clear()


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing disturbs a measurement, as far as tests of other things can tell, and no time is spent to find out."""
    make_quiet(monkeypatch)
