"""Measurements are taken as if the machine were quiet."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _quiet(quiet: None) -> None:
    """See :func:`tests.support.fixtures.quiet`."""
