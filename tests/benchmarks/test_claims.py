"""``benchmarks/claims.py``: stopped, resumed, and its page made again from the results and from their record."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from tzwc.data import load

pytest.importorskip("matplotlib")
BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def claims(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The script, with two short runs to do."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import claims  # type: ignore[import-not-found, unused-ignore]

    cells = [claims.Cell("digits", "Terminator", 0), claims.Cell("digits", "MLP", 0)]
    monkeypatch.setattr(claims, "plan", lambda *_: cells)
    return claims


def test_stopped_resumed_and_reported(
    claims: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, docs = tmp_path / "out", tmp_path / "docs"
    options = ["--out", str(out), "--docs", str(docs), "--epochs", "1", "--blocks", "1"]
    monkeypatch.setattr("sys.argv", ["claims.py", *options, "--threads", str(torch.get_num_threads())])
    docs.mkdir()
    page = docs / "claims.md"
    page.write_text("before <!-- results: written by benchmarks/claims.py --> old <!-- end of results --> behind")

    with monkeypatch.context() as patch:
        patch.setattr(claims.Trainer, "_batch", _interrupting(claims.Trainer._batch))
        assert claims.main() == 130
    assert "the same command goes on" in capsys.readouterr().err
    assert not list(out.glob("*/result.json"))
    assert claims.main() == 0
    results = [json.loads(path.read_text()) for path in sorted(out.glob("*/result.json"))]
    assert [run["name"] for run in results] == ["MLP", "Terminator"]
    assert sorted(results[1]["features"]) == ["0", "1"]
    text = page.read_text()
    assert text.startswith("before")
    assert text.endswith("behind")
    assert " old " not in text
    assert "| Terminator | 1 |" in text
    assert {path.name for path in (docs / "claims").iterdir()} == {
        "curves.png",
        "features.png",
        "kernels-digits.png",
        "results.json",
    }

    # The record, which is kept with the page, is enough for its tables.
    monkeypatch.setattr("sys.argv", ["claims.py", "--out", str(tmp_path / "nothing"), *options[2:], "--only-report"])
    assert claims.main() == 0
    assert [line for line in page.read_text().splitlines() if "| Terminator | 1 |" in line] == [
        line for line in text.splitlines() if "| Terminator | 1 |" in line
    ]


def _interrupting(batch: Any) -> Any:
    """Ctrl-C during the third step."""
    calls: list[int] = []

    def call(self: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:
            signal.raise_signal(signal.SIGINT)
        return batch(self)

    return call


def test_every_contender_can_be_made_and_keeps_to_the_budget(claims: Any) -> None:
    contender = claims.contender
    for task in ("digits", "sdigits"):
        data = load(task)
        budget = sum(p.numel() for p in contender("Terminator", data, 1, 0, 2).model.parameters())
        for name in claims.BASELINES:
            size = sum(p.numel() for p in contender(name, data, 1, 0, 2).model.parameters())
            assert 0.9 * budget < size <= budget, (task, name)
    whole = contender("Terminator", load("digits"), 1, 0, 2)
    for name in claims.ABLATIONS:
        found = contender(name, load("digits"), 1, 0, 2)
        same = found.recipe == whole.recipe and found.model.spec == whole.model.spec
        assert not same or name in ("batch only", "instance only"), name
