"""A machine that is quiet, as far as tests of other things can tell."""

from __future__ import annotations

import pytest

from tests.support.fake_timer import make_quiet


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing disturbs a measurement, and no time is spent to find out."""
    make_quiet(monkeypatch)
