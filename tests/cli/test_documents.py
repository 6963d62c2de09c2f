"""What the documents say can be done can be done."""

from __future__ import annotations

import functools
import re
import runpy
from pathlib import Path

import pytest

import tzwc
from tzwc.passes import DEFAULT_PASSES

ROOT = Path(__file__).parents[2]
DOCUMENTS = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")


@pytest.fixture
def _without_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Compile small models, with the backend ``eager`` wherever none is named, in an empty working directory."""
    monkeypatch.setattr(tzwc, "compile", functools.partial(tzwc.compile, backend="eager"))
    monkeypatch.setattr(tzwc.models, "terminator", functools.partial(tzwc.models.terminator, factors=(12,)))
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("_without_compiler")
def test_python_of_the_readme(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    exec(compile(code, "README.md", "exec"), {})
    assert "hoist_static" in capsys.readouterr().out
    assert (tmp_path / "out" / "digits").is_dir()


@pytest.mark.usefixtures("_without_compiler")
@pytest.mark.parametrize("example", sorted(path.name for path in (ROOT / "examples").glob("*.py")))
def test_examples(example: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", [example])
    runpy.run_path(str(ROOT / "examples" / example), run_name="__main__")
    said = capsys.readouterr().out
    expected = {
        "accumulate.py": r"agree to 1e-12: True(.|\n)*× as fast",
        "own_model.py": r"after a change: +\d(\.\d+)?e-0[5-9]",
        "own_pass.py": r"equal: True(.|\n)* declined: relu_\d is needed elsewhere",
        "train.py": r"step 300: loss 0\.[0-4]",
    }
    assert re.search(expected[example], said), said


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_somewhere(document: str) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", (ROOT / document).read_text()):
        assert (ROOT / target).exists(), target


def test_readme_names_every_pass() -> None:
    text, picture = (ROOT / "README.md").read_text(), (ROOT / "docs" / "pipeline.svg").read_text()
    for step in DEFAULT_PASSES:
        assert f"[`{step.name}`]" in text
        assert step.name in picture


def test_named_files_exist() -> None:
    for document in DOCUMENTS:
        for name in re.findall(
            r"`((?:tzwc|passes|models|tests|benchmarks|examples)/[\w/.]+)`", (ROOT / document).read_text()
        ):
            assert (ROOT / name).exists(), name
