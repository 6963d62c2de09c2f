"""The directory for caches, whatever the environment says."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from tzwc.util.paths import cache_directory


def test_it_is_absolute_whatever_names_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    cases = {"/a/b": Path("/a/b"), "~/c": tmp_path / "home/c", "d": tmp_path / "d"}
    cases["~nobody-at-all/e"] = tmp_path / "~nobody-at-all/e"
    for named, expected in cases.items():
        monkeypatch.setenv("TZWC_CACHE_DIR", named)
        assert cache_directory() == expected


@pytest.mark.parametrize("named", [None, ""])
def test_it_is_the_user_s_when_none_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, named: str | None
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("TZWC_CACHE_DIR")
    if named is not None:
        monkeypatch.setenv("TZWC_CACHE_DIR", named)
    assert cache_directory().is_relative_to(tmp_path)
    assert cache_directory().name == "tzwc"


def test_without_a_home_no_directory_called_tilde_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TZWC_CACHE_DIR")
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda *_, **__: "~/.cache/tzwc")
    assert cache_directory() == Path(tempfile.gettempdir()) / f"tzwc-{os.getuid()}"
