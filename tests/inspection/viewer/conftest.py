"""A dumped model, and a browser to look at it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import tzwc


@pytest.fixture(scope="session")
def fast() -> Any:
    """A small Terminator, compiled and called twice."""
    torch.manual_seed(0)
    fast = tzwc.compile(tzwc.models.terminator("digits", factors=(12, 2)).eval(), backend="eager")
    with torch.no_grad():
        for _ in range(2):
            fast(torch.rand(4, 1, 8, 8))
    return fast


@pytest.fixture(scope="session")
def dumped(fast: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that ``fast.dump`` wrote."""
    folder = tmp_path_factory.mktemp("viewer") / "out"
    fast.dump(folder)
    return folder


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Debian's Chromium without a window."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("no Chromium is installed")
    with playwright.sync_playwright() as running:
        # The pages are written here; a container's root user has no other way to start the browser.
        browser = running.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def visit(browser: Any) -> Iterator[Any]:
    """Opens a file and waits for it; at the end nothing may have gone wrong or left the machine."""
    said: list[str] = []
    context = browser.new_context(viewport={"width": 1400, "height": 850})
    page = context.new_page()
    page.set_default_timeout(120_000)
    page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: said.append(request.url) if request.url.startswith(("http", "ws")) else None)

    def visit(path: Path, selector: str = "body[data-ready]") -> Any:
        page.goto(path.resolve().as_uri())
        page.wait_for_selector(selector, state="attached")
        return page

    yield visit
    context.close()
    assert said == []
