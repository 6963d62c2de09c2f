"""Settings of all tests."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from types import ModuleType

import pytest
import torch
from hypothesis import HealthCheck, settings
from hypothesis.database import DirectoryBasedExampleDatabase

from tests.support.examples import PROFILE
from tzwc.native import loader

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
_HERE = Path(__file__).parent
_FAILED = DirectoryBasedExampleDatabase(Path(__file__).parents[1] / ".hypothesis" / "examples")
settings.register_profile(
    "deep", parent=settings.get_profile("default"), derandomize=False, max_examples=10_000, database=_FAILED
)
settings.load_profile(PROFILE)


_PORTABLE = (
    *("autotune", "lowering/test_matmul_pass.py", "ops/conv", "ops/test_matmul.py", "passes/convolution"),
    *("runtime/test_compiled_changes.py", "runtime/test_compiled_module.py"),
)
"""What depends on the processor: its instruction set decides which code of ATen and oneDNN runs, and how it rounds."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--refuse-onednn", action="store_true", help="products by oneDNN raise, as on a processor without AVX-512"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Where that is asked for, ATen's private product refuses float32 whatever this processor has."""
    if not config.getoption("--refuse-onednn"):
        return
    load = loader.load_library

    def refuse(*_: object) -> None:
        raise RuntimeError("mkldnn_matmul: float32 is refused, as on a processor without AVX-512")

    def load_refusing(path: Path) -> ModuleType:
        module = load(path)
        module.products_multiply = refuse  # type: ignore[attr-defined]
        return module

    loader.load_library = load_refusing


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


@pytest.hookimpl(tryfirst=True)  # before `-m` chooses
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark what is ``portable``; skip GPU tests, with the reason, where there is no GPU; when deep, only draw."""
    portable = [_HERE / name for name in _PORTABLE]
    for item in items:
        if any(item.path.is_relative_to(place) for place in portable):
            item.add_marker("portable")
    if PROFILE == "deep":
        config.hook.pytest_deselected(items=[item for item in items if not _draws(item)])
        items[:] = filter(_draws, items)
    if not torch.cuda.is_available():
        skip = pytest.mark.skip(reason="no CUDA device is available")
        for item in items:
            if item.get_closest_marker("gpu") is not None:  # keywords hold names of folders too
                item.add_marker(skip)
