from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from tests.support.triton import needs_triton
from tzwc.cli.main import app
from tzwc.cross_compile import process

Invoke = Callable[..., Result]
HYPER = ("lower", "tests.support.gpu_models:Hyper", "--input", "4x6x16")


@pytest.fixture
def invoke() -> Invoke:
    return lambda *arguments: CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200"})


@needs_triton
def test_a_table_files_and_a_check(invoke: Invoke, tmp_path: Path) -> None:
    result = invoke(*HYPER, "--no-binaries", "--check", "--out", str(tmp_path / "out"))
    assert result.exit_code == 0, result.output
    assert "NVIDIA H100 SXM (cuda:90)" in result.stdout
    assert "extern_kernels" in result.stdout
    assert "linear" in result.stdout
    line = next(line for line in result.stdout.splitlines() if line.startswith("largest difference from eager"))
    assert float(line.split(": ")[1].split()[0]) < 1e-6
    assert (tmp_path / "out" / "inference.py").is_file()


@needs_triton
def test_comparison_as_json(invoke: Invoke) -> None:
    result = invoke(*HYPER, "--compare", "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["measured"] is False
    assert found["tzwc"]["launches"] < found["plain"]["launches"]


def test_what_makes_no_sense_is_refused(invoke: Invoke, tmp_path: Path) -> None:
    for arguments, said in (
        (("--target", "cuda:1"), "target='cuda:1' is unknown"),
        (("--compare", "--check"), "--compare goes with neither"),
        (("--train", "--check"), "leave out --train"),
        (("--dtype", "int64"), "parameters need a floating-point type"),
        (("--input", "4x6xx"), "expected sizes joined by x"),
    ):
        result = invoke(*HYPER, *arguments)
        assert result.exit_code == 2, result.output
        assert said in result.stderr
    (tmp_path / "file").touch()
    result = invoke(*HYPER, "--out", str(tmp_path / "file"))
    assert result.exit_code == 2
    assert "give a folder" in result.stderr


def test_without_triton_it_says_what_to_install(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process.importlib.util, "find_spec", lambda _: None)
    result = invoke(*HYPER)
    assert result.exit_code == 1
    assert "pip install 'tzwc[triton]'" in result.stderr
