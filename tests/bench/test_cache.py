from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from typer.testing import CliRunner, Result

import tzwc
from tests.support.written_weights import Written
from tzwc.bench import CONTENDERS, Request
from tzwc.bench.cache.check_cost import measure_check
from tzwc.bench.cache.freshness import freshness, optimiser_step
from tzwc.bench.contenders import build, choose
from tzwc.cli.main import app
from tzwc.errors import InvalidArgumentError, TzwcError

QUICK = ["--presets", "digits", "--batches", "2", "--backend", "eager", "--rounds", "2"]
PARTS = {
    "guard",
    "layout",
    *(f"{part}, {check}" for part in ("cache", "sum", "call") for check in ("version", "bytes")),
}


def bench(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["bench", "cache", *arguments], env={"COLUMNS": "200"})


def test_json_has_every_figure_and_tells_who_is_right_after_a_step() -> None:
    result = bench(*QUICK, "--contenders", "eager,tzwc,const_fold", "--json")
    assert result.exit_code == 0, result.output
    (preset,) = json.loads(result.stdout)["presets"]
    assert preset["preset"] == "digits"
    check = preset["check"]
    assert check["kept values"] > 0
    assert check["kept bytes"] > 0
    assert 0 < check["watched slots"] <= check["slots"]
    assert check["microseconds"].keys() == PARTS
    assert all(0 < figure["least"] <= figure["median"] for figure in check["microseconds"].values())
    (cell,) = preset["batches"]
    assert cell["batch"] == 2
    by_name: dict[str, dict[str, Any]] = {row["contender"]: row for row in cell["contenders"]}
    assert list(by_name) == ["eager", "tzwc", "const_fold"]
    for row in by_name.values():
        assert row["milliseconds"] > 0
        assert row["ratio of medians"] > 0
        assert row["median of ratios"] > 0
        assert row["agrees with eager"] is True
        assert row["error"] == ""
    right = {name: row["right after an optimiser step"] for name, row in by_name.items()}
    assert right == {"eager": True, "tzwc": True, "const_fold": False}


@pytest.mark.usefixtures("_written")
def test_tables_for_people_and_progress_beside_them() -> None:
    result = bench(*QUICK, "--contenders", "tzwc")
    assert result.exit_code == 0, result.output
    for text in (*PARTS, "native watch", "right after a step"):
        assert text in result.stdout
    assert "measuring, in turns" in result.stderr
    assert "measuring, in turns" not in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--presets", "cifar11"], "preset 'cifar11' is unknown: choose from cifar10"),
        (["--presets", ","], "no presets: choose from cifar10"),
        (["--contenders", "eager,jit"], "contender 'jit' is unknown: choose from eager, tzwc"),
        (["--contenders", "freezing", "--backend", "eager"], "'freezing' is a setting of Inductor"),
        (["--batches", "1,x"], "batches '1,x': expected numbers"),
        (["--batches", "0"], "sizes of at least 1"),
        (["--backend", "eagr"], "backend='eagr'"),
        (["--rounds", "1"], "rounds"),
    ],
)
def test_what_is_not_understood_is_named(arguments: list[str], message: str) -> None:
    result = bench(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr


def test_contenders_by_default() -> None:
    assert choose(None, "inductor") == tuple(CONTENDERS)
    assert choose(None, "eager") == ("eager", "tzwc", "compile", "const_fold")
    assert choose(("tzwc", "tzwc"), "eager") == ("tzwc",)
    with pytest.raises(InvalidArgumentError, match="no contenders: choose from eager, tzwc"):
        choose((), "eager")
    assert Request().chosen == tuple(CONTENDERS)


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.AdamW])
@pytest.mark.parametrize(("name", "right"), [("eager", True), ("tzwc", True), ("compile", True), ("const_fold", False)])
def test_freshness(name: str, right: bool, kind: Callable[..., torch.optim.Optimizer]) -> None:
    model, x = Written(), torch.ones(2, 4)
    call = build(name, model, x, "eager")
    before = model(x).detach()
    assert torch.equal(call(x), before)
    optimiser_step(model, kind)
    assert torch.equal(call(x), model(x)) is right
    assert torch.equal(call(x), before) is not right
    found = freshness(build(name, model, x, "eager"), model, x)
    assert found.right_before
    assert found.right_after is right


@pytest.mark.inductor
def test_freezing_keeps_what_the_parameters_were() -> None:
    from tzwc.bench.contenders import settings_of

    model, x = Written(), torch.ones(2, 4)
    with settings_of("freezing"):
        found = freshness(build("freezing", model, x, "inductor"), model, x)
    assert found.right_before
    assert not found.right_after


def test_a_model_that_no_step_moves_cannot_tell() -> None:
    model = nn.Dropout().eval()
    model.register_parameter("unused", nn.Parameter(torch.ones(1)))
    with pytest.raises(TzwcError, match="does not change the result"):
        freshness(model, model, torch.ones(2))


@pytest.mark.usefixtures("_written")
def test_a_failing_contender_does_not_lose_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> Sequence[object]:
        raise RuntimeError("no compiler here\nand much more")

    monkeypatch.setattr(torch, "compile", broken)
    result = bench(*QUICK, "--contenders", "compile,eager", "--json")
    assert result.exit_code == 0, result.output
    compiled, eager = json.loads(result.stdout)["presets"][0]["batches"][0]["contenders"]
    assert compiled["error"] == "RuntimeError: no compiler here"
    assert compiled["milliseconds"] is compiled["right after an optimiser step"] is None
    assert eager["milliseconds"] > 0


def test_the_check_of_a_model_that_cannot_be_captured() -> None:
    class Branches(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x if x.sum() > 0 else -x

    with pytest.raises(tzwc.TzwcError, match="cannot be captured"):
        measure_check(Branches(), torch.ones(2), rounds=2)
