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
DOCUMENTS = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/writing-a-pass.md")


@pytest.fixture
def _without_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Compile small models, with the backend ``eager`` wherever none is named, in an empty working directory."""
    monkeypatch.setattr(tzwc, "compile", functools.partial(tzwc.compile, backend="eager"))
    monkeypatch.setattr(tzwc.models, "terminator", functools.partial(tzwc.models.terminator, factors=(12,)))
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("_without_compiler")
def test_python_of_the_readme(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    first, second = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    names: dict[str, object] = {}
    exec(compile(first, "README.md", "exec"), names)
    assert "hoist_static" in capsys.readouterr().out
    assert (tmp_path / "out" / "digits").is_dir()
    exec(compile("x = torch.rand(2, 1, 8, 8)\n" + second, "README.md", "exec"), names)
    said = capsys.readouterr().out
    assert "every stage is within it" in said
    assert "measured by operators" in said


@pytest.mark.usefixtures("_without_compiler")
def test_writing_a_pass(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The blocks of the page are one program; the first is a module that a package can announce."""
    text = (ROOT / "docs" / "writing-a-pass.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(blocks[0].strip().splitlines()) <= 30  # twenty lines, and the imports
    (tmp_path / "simplify_relu.py").write_text(blocks[0])
    monkeypatch.syspath_prepend(tmp_path)
    program = tmp_path / "program.py"
    program.write_text("from simplify_relu import *\n" + "".join(blocks[1:]))
    runpy.run_path(str(program))
    said = capsys.readouterr().out
    assert "simplify_relu/double" in said
    assert "drop@" in said
    (entry,) = re.findall(r'\[project\.entry-points\."tzwc\.passes"\]\nsimplify_relu = "(.*)"', text)
    assert tzwc.passes.by_name(entry).name == "simplify_relu"


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
        assert ((ROOT / document).parent / target).exists(), target


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
