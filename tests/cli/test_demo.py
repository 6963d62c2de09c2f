from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import matplotlib.image
import pytest
import torch
from typer.testing import Result

import tzwc.cli.demo
from tzwc.cli.demo import compare
from tzwc.cli.demo_pictures import draw_kernels


def test_agreement_is_judged_by_float64() -> None:
    exact = torch.tensor([[3.0, 1.0], [1.0, 3.0]], dtype=torch.float64)
    eager = exact + 1e-3
    assert compare(eager, exact + 3e-3, exact).holds
    assert not compare(eager, exact + 5e-3, exact).holds
    assert not compare(eager, exact.flip(1), exact).holds


def test_a_near_tie_may_go_either_way() -> None:
    exact = torch.tensor([[1.0, 1.0005]], dtype=torch.float64)
    turned = torch.tensor([[1.001, 1.0005]], dtype=torch.float64)
    found = compare(turned, exact, exact)
    assert (found.same, found.undecided) == (0, 1)
    assert found.holds


def test_a_demo_that_finds_no_agreement_has_failed(
    invoke: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tzwc.cli.demo, "run", lambda *_: False)
    assert invoke("demo").exit_code == 1


def test_kernels_are_drawn_however_many_channels_they_have(tmp_path: Path) -> None:
    draw_kernels([torch.rand(1, 2, 4, 4), torch.rand(1, 5, 4, 4)], tmp_path / "new" / "kernels.png", channels=4)
    picture = matplotlib.image.imread(tmp_path / "new" / "kernels.png")
    height, width, _ = picture.shape
    assert (width, height) == (round(120 * 1.2 * 4), round(120 * 1.35 * 2))


def test_quick_demo(invoke: Callable[..., Result], tmp_path: Path) -> None:
    result = invoke("demo", "--quick", "--out", str(tmp_path / "out"))
    assert result.exit_code == 0, result.output
    assert "compiled and eager agree" in result.stdout
    assert "torch.compile" in result.stdout
    assert (tmp_path / "out" / "report.json").is_file()
