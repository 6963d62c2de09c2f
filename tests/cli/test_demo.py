from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from typer.testing import Result

from tzwc.demo import compare


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


def test_quick_demo(invoke: Callable[..., Result], tmp_path: Path) -> None:
    result = invoke("demo", "--quick", "--out", str(tmp_path / "out"))
    assert result.exit_code == 0, result.output
    assert "compiled and eager agree" in result.stdout
    assert "torch.compile" in result.stdout
    assert (tmp_path / "out" / "report.json").is_file()
