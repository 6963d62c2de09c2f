"""Processes that believe in a GPU, started once for all tests: each takes seconds to import PyTorch and Triton."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator

import pytest

from tzwc.cross_compile import Process

needs_triton = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="Triton is not installed: pip install 'tzwc[triton]'"
)


@pytest.fixture(scope="package")
def compiler() -> Iterator[Process]:
    with Process("lower") as process:
        yield process


@pytest.fixture(scope="package")
def interpreter() -> Iterator[Process]:
    with Process("run") as process:
        yield process
