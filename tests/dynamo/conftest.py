"""Fixtures of these tests."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest
import torch

import tzwc.dynamo
from tests.support.dynamo_testing import left_over


@pytest.fixture
def fresh_dynamo() -> Iterator[None]:
    """Dynamo as if nothing had been compiled yet."""
    torch._dynamo.reset()
    gc.collect()
    left_over[:] = tzwc.dynamo.compiled_graphs()
    yield
    torch._dynamo.reset()
    left_over.clear()
