"""The report says what is missing on a machine and what that costs; answers do not depend on it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tzwc.native.loader import Extension
from tzwc.runtime import environment
from tzwc.runtime.environment import shortcomings

_REPORT = """
import torch, tzwc
from tzwc.native.loader import extension
extension.wait(0.0 if tzwc.native.loader.disabled() else 120.0)
model, x = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh()).double(), torch.randn(2, 3).double()
fast = tzwc.compile(model, backend="eager")
torch.testing.assert_close(fast(x), model(x))
notes = fast.report().notes
text = "".join(str(fast.report()).split())
assert all("".join(note.split())[:40] in text for note in notes), text
print(*notes, sep="\\n")
"""


def _notes(**changes: str) -> list[str]:
    """What the report of a new process says whose environment is this one's with some ``changes``."""
    variables = {name: value for name, value in os.environ.items() if name not in ("CXX", "TZWC_LOG", "TORCH_LOGS")}
    command = [sys.executable, "-W", "error", "-c", _REPORT]
    done = subprocess.run(command, env=variables | changes, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return [line for line in done.stdout.splitlines() if "huge pages" not in line]


def test_a_file_in_place_of_the_cache_directory(tmp_path: Path) -> None:
    file = tmp_path / "cache"
    file.write_text("")
    extension, cache = _notes(TZWC_CACHE_DIR=str(file))
    assert extension.startswith("The native extension is not there (")
    assert cache.startswith(f"{file} cannot be written to: measurements are not remembered")
    assert "TZWC_CACHE_DIR" in cache


def test_no_compiler(tmp_path: Path) -> None:
    extension, compiler = _notes(PATH=str(tmp_path))
    assert extension.startswith("The native extension is not there (there is no C++ compiler 'g++'): ")
    assert compiler.startswith("There is no C++ compiler 'g++': ")
    assert compiler.endswith("install g++, or name a compiler in CXX.")


def test_no_native_extension_is_wanted() -> None:
    (extension,) = _notes(TZWC_NATIVE="0")
    assert extension.startswith("The native extension is not there (TZWC_NATIVE=0): ")


def test_nothing_is_missing_while_the_extension_is_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "extension", Extension())
    monkeypatch.setattr(environment, "_huge_pages", lambda: "")
    assert shortcomings() == ()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux says so in a file")
@pytest.mark.parametrize(
    ("setting", "missing"), [("always [madvise] never", 0), ("always madvise [never]", 1), (None, 1)]
)
def test_huge_pages(setting: str | None, missing: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "enabled"
    if setting is not None:
        file.write_text(setting)
    monkeypatch.setattr(environment, "_HUGE_PAGES", file)
    assert sum("no huge pages" in note for note in shortcomings()) == missing


def test_a_directory_that_is_yet_to_be_made_is_not_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZWC_CACHE_DIR", str(tmp_path / "one" / "two"))
    assert not any("cannot be written to" in note for note in shortcomings())
    assert list(tmp_path.iterdir()) == []
