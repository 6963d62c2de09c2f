"""tzwc calibrate, and tzwc cache."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner, Result

import tzwc.autotune.calibration
from tzwc.cli.main import app
from tzwc.util.disk_cache import Store


@pytest.fixture
def invoke() -> Callable[..., Result]:
    return lambda *arguments: CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200"})


def test_calibrate_remembers_and_cache_manages_it(invoke: Callable[..., Result], tmp_path: Path) -> None:
    table = tmp_path / "table.json"
    result = invoke("calibrate", "--seconds", "0.3", "--threads", "1", "--json", "--out", str(table))
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["stored"]
    assert found["complete"]
    assert found["machine"]["threads"] == 1
    assert len(json.loads(table.read_text())["samples"]) == found["problems"] > 0
    Store().put("choice", {"machine": found["machine"], "problem": {"batch": 3, "lengths": [4]}}, {})
    listed = json.loads(invoke("cache", "list", "--json").stdout)
    assert {entry["kind"] for entry in listed["entries"]} == {"calibration", "choice"}
    assert listed["bytes"] == sum(path.stat().st_size for path in Path(listed["folder"]).iterdir())
    text = invoke("cache", "list").stdout
    assert "batch 3" in text
    assert "1 threads" in text
    cleared = invoke("cache", "clear")
    assert "removed 1 calibration, 1 choice, 0 products and 0 doubtful measurements" in cleared.stdout
    assert json.loads(invoke("cache", "clear", "--json").stdout)["removed"] == []
    assert "0 calibrations, 0 choices, 0 products and 0 doubtful measurements" in invoke("cache", "list").stdout


def test_files_of_others_are_listed_without_a_traceback(invoke: Callable[..., Result]) -> None:
    store = Store()
    store.put("choice", {"damaged": True}, 1)
    next(store.folder.iterdir()).write_text("?")
    for number, key in enumerate(({}, {"machine": 3}, {"problem": {"batch": "[red]"}}, {"machine": {}, "problem": 1})):
        store.put("choice", key | {"number": number}, 1)
    machine = {"cpu": "fast one", "threads": 4}
    store.put("product", {"product": [[[64, 12], "bfloat16"], [[12, 7], "bfloat16"]], "machine": machine}, 1)
    store.put("product", {"product": ["no operand", [], [3]]}, 1)
    result = invoke("cache", "list")
    assert result.exit_code == 0, result.output
    assert "cannot be read" in result.stdout
    assert "batch [red]" in result.stdout
    assert "64×12 · 12×7, 4 threads" in result.stdout


def test_an_interrupted_calibration_says_so(invoke: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(tzwc.autotune.calibration, "sample", interrupt)
    result = invoke("calibrate", "--seconds", "5")
    assert result.exit_code == 130
    assert "not remembered" in result.stdout


def test_a_device_that_there_is_not(invoke: Callable[..., Result]) -> None:
    assert invoke("calibrate", "--device", "abacus").exit_code == 2
    if not torch.cuda.is_available():
        assert invoke("calibrate", "--device", "cuda").exit_code == 2
