"""Settings of all tests."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings
from hypothesis.database import DirectoryBasedExampleDatabase

from tests.support.examples import PROFILE

pytest_plugins = ["tests.support.fixtures"]

# The shapes are tiny, and threads that wait for each other cost more than they give.
torch.set_num_threads(1)

# Measurements take time and give what they give; tests that are about them ask for them.
os.environ.setdefault("TZWC_TUNE", "model")

# A shell starts its background jobs with interrupts ignored, and some tests interrupt themselves.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Captures and compilations take as long as they take; what counts is the result, and that it can be repeated.
settings.register_profile("default", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
# An hour and more, `make test-deep`: other examples at every run, and those that failed first the next time.
_FAILED = DirectoryBasedExampleDatabase(Path(__file__).parents[1] / ".hypothesis" / "examples")
settings.register_profile(
    "deep", parent=settings.get_profile("default"), derandomize=False, max_examples=10_000, database=_FAILED
)
settings.load_profile(PROFILE)


@pytest.fixture(autouse=True)
def _cache_of_its_own(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder in place of the user's cache: no test reads what was measured on this machine, or adds to it."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("TZWC_CACHE_DIR", str(folder))
    return folder


def _draws(item: pytest.Item) -> bool:
    """Whether a test draws examples, by itself or through a state machine."""
    module = getattr(item, "module", None)
    return hasattr(getattr(item, "obj", None), "hypothesis") or hasattr(module, "examples")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip GPU tests, with the reason, where there is no GPU; when deep, leave out what would only be repeated."""
    if PROFILE == "deep":
        config.hook.pytest_deselected(items=[item for item in items if not _draws(item)])
        items[:] = filter(_draws, items)
    if not torch.cuda.is_available():
        skip = pytest.mark.skip(reason="no CUDA device is available")
        for item in items:
            if item.get_closest_marker("gpu") is not None:  # keywords hold names of folders too
                item.add_marker(skip)
