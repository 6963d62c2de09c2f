"""The page is one safe file, and a dump without its library says what to install."""

from __future__ import annotations

import hashlib
import json
import logging
import re
from base64 import b64encode
from importlib import metadata
from pathlib import Path

import pytest

from tests.support.hostile_report import HOSTILE, hostile_report
from tests.support.viewer_programs import report
from tzwc.inspection import SpecialisationInfo, dump
from tzwc.inspection.viewer import LibraryMissingError, page, render_page


def test_hostile_texts_stay_inside() -> None:
    text = render_page(hostile_report())
    text.encode("utf-8")
    assert text.lower().count("<script") == text.lower().count("</script") == 3
    assert "<!--<script" not in text
    [data] = re.findall(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    assert not set("<>&\u2028") & set(data)
    assert json.loads(data)["model"] == HOSTILE.replace("\udcff", "?")


def test_only_our_own_scripts_may_run() -> None:
    text = render_page(report())
    [policy] = re.findall(r'Content-Security-Policy" content="([^"]*)"', text)
    [script] = re.findall(r'<script type="module">(.*?)</script>', text, re.DOTALL)
    digest = b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}' blob:" in policy
    assert "default-src 'none'" in policy
    assert not re.search(r"""(?:src|href)=["']?(?:https?:)?//""", text)


def test_our_files_cannot_end_their_elements() -> None:
    folder = Path(page.__file__).parent
    for file in (*folder.glob("js/*.js"), folder / "style.css"):
        source = file.read_text()
        assert not re.search(r"</(script|style)|<!--", source, re.IGNORECASE), file.name
        assert "innerHTML" not in source, file.name
        assert len(source.splitlines()) < 300, file.name
    assert {file.stem for file in folder.glob("js/*.js")} == {*page.SCRIPTS, "worker"}


@pytest.mark.parametrize("missing", ["package", "file", "interface"])
def test_without_the_library_everything_else_is_written(
    missing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Distribution:
        version = "1.0"

        def locate_file(self, name: str) -> Path:
            return tmp_path / "library" / name

    def find(name: str) -> Distribution:
        if missing == "package":
            raise metadata.PackageNotFoundError(name)
        return Distribution()

    if missing == "interface":
        (tmp_path / "library" / "netron").mkdir(parents=True)
        (tmp_path / "library" / "netron" / "dagre.js").write_text("export default 1;\n")
    monkeypatch.setattr("tzwc.inspection.viewer.library.metadata.distribution", find)
    with pytest.raises(LibraryMissingError, match="netron"):
        render_page(report())
    with caplog.at_level(logging.WARNING):
        dump(tmp_path / "out", [SpecialisationInfo("a")])
    assert not (tmp_path / "out" / "report.html").exists()
    for said in (caplog.text, (tmp_path / "out" / "report.txt").read_text()):
        assert "report.html was not written" in " ".join(said.split())
        assert "pip install 'tzwc[viewer]'" in " ".join(said.split())


def test_nothing_is_imported_until_it_is_used() -> None:
    import subprocess
    import sys

    code = "import sys, tzwc.runtime.compiled_module; sys.exit('tzwc.inspection.viewer' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
