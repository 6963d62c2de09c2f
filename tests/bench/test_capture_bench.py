from __future__ import annotations

import functools
import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from typer.testing import CliRunner, Result

import tzwc
import tzwc.bench.capture.capture
from tzwc.bench.breaks import count_breaks, quiet
from tzwc.bench.capture.capture import CONTENDERS, Request
from tzwc.bench.capture.cells import Cell, Contender
from tzwc.bench.capture.lazy_terminator import lazy_terminator
from tzwc.bench.capture.outcome import outcome_of
from tzwc.cli.main import app
from tzwc.util.timing import Timing

QUICK = ["--preset", "digits", "--batches", "2,3", "--backend", "eager", "--rounds", "2"]


class Writer(nn.Module):
    """The lazy manner in its smallest form."""

    flag: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.register_buffer("flag", torch.zeros(1).bool(), persistent=False)
        self.kernel = torch.zeros(1)

    def forward(self, x: Tensor) -> Tensor:
        if not self.flag[0]:
            self.weight.data *= 0.5
            self.flag[0] = True
        self.kernel = self.weight.sin()
        return x * self.kernel.sum()


class Lazy(nn.Module):
    """By default more of them, each of another size, than Dynamo compiles one function for."""

    def __init__(self, writers: int = 12) -> None:
        super().__init__()
        self.writers = nn.ModuleList(Writer(2 + size) for size in range(writers))

    def forward(self, x: Tensor) -> Tensor:
        for writer in self.writers:
            x = writer(x)
        return x


@pytest.fixture
def _lazy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tzwc.bench.capture.capture, "lazy_terminator", lambda _: Lazy(2))


@pytest.fixture(autouse=True)
def _dynamo_forgets() -> Iterator[None]:
    yield
    torch._dynamo.reset()


def bench(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["bench", "capture", *arguments], env={"COLUMNS": "200"})


@pytest.mark.usefixtures("_lazy")
def test_json_has_every_figure() -> None:
    result = bench(*QUICK, "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["model"] == "digits"
    assert found["parameters"] == 5
    assert found["torch.compile"]["first forward"]["graph breaks"] > 0
    assert found["tzwc"].keys() == {"level", "graphs", "assumptions", "remarks"}
    assert isinstance(found["tzwc"]["level"], str)
    assert [cell["batch"] for cell in found["batches"]] == [2, 3]
    for cell in found["batches"]:
        rows: dict[str, dict[str, Any]] = {row["contender"]: row for row in cell["contenders"]}
        assert list(rows) == ["eager", "compile", "compile_static", "tzwc"]
        for row in rows.values():
            assert row["milliseconds"] > 0
            assert row["first call, seconds"] >= 0
            assert row["deviation from eager"] < 1e-6  # sums of three float32 values, at most in another order
            assert row["deviation of what is left on modules"] < 1e-6
            assert row["error"] == ""
        assert cell["better of eager and torch.compile"] in rows
        assert cell["ratio of medians"] > 0
        assert cell["median of ratios"] > 0


@pytest.mark.usefixtures("_lazy")
def test_tables_for_people_and_progress_beside_them() -> None:
    result = bench(*QUICK, "--contenders", "eager,tzwc")
    assert result.exit_code == 0, result.output
    for text in ("graph breaks", "recompilations", "tzwc:", "eager ÷ tzwc", "first call"):
        assert text in result.stdout
    assert "measuring, in turns" in result.stderr
    assert "measuring, in turns" not in result.stdout


def test_the_real_model_whatever_tzwc_makes_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    small = functools.partial(lazy_terminator, factors=(12,))
    monkeypatch.setattr(tzwc.bench.capture.capture, "lazy_terminator", small)
    none = count_breaks(nn.Identity(), [])
    monkeypatch.setattr(tzwc.bench.capture.capture, "count_breaks", lambda *_: none)  # ten seconds by itself
    result = tzwc.bench.capture.capture.run(Request("digits", (2,), "eager", ("eager", "tzwc"), rounds=2))
    (cell,) = result.cells
    assert result.outcome is not None
    assert result.outcome.graphs == 0 or result.outcome.level != "untouched"
    for contender in cell.contenders:
        assert contender.error == ""
        # Kernels carry the rounding of arguments of 1e5, 1e-3 of their peak, where a rewrite rounds these otherwise.
        assert contender.deviation < 1e-2
        assert contender.left_deviation < 1e-2


def test_breaks_recompilations_and_the_limit_are_counted() -> None:
    fresh = Lazy()
    first = count_breaks(fresh, [torch.ones(2)])
    assert first.breaks > 0
    assert first.recompilations > 0
    assert first.limits > 0
    assert first.pieces > 1
    assert not any(writer.get_buffer("flag")[0] for writer in fresh.writers)
    plain = count_breaks(nn.Linear(2, 2), [torch.ones(1, 2), torch.ones(3, 2)])
    assert (plain.breaks, plain.pieces, plain.limits) == (0, 1, 0)
    assert plain.graphs == plain.recompilations + 1 == 2


def test_the_peer_is_the_fastest_other_and_failures_have_no_part() -> None:
    def timed(name: str, *seconds: float) -> Contender:
        return Contender(name, 1.0, Timing(name, seconds))

    cell = Cell(2, (timed("eager", 4.0, 6.0), timed("compile", 3.0, 3.0), timed("tzwc", 1.0, 2.0)))
    assert cell.peer is not None
    assert cell.peer.name == "compile"
    assert cell.gains == (2.0, 2.25)
    failed = Cell(2, (Contender("compile", 1.0, error="no"), timed("tzwc", 1.0, 2.0)))
    assert failed.peer is failed.gains is None
    assert failed.to_dict()["contenders"][0]["deviation from eager"] is None


@pytest.mark.usefixtures("_lazy")
def test_a_failing_contender_does_not_lose_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CONTENDERS, "compile", {"fullgraph": True})  # type: ignore[misc]
    result = bench(*QUICK, "--contenders", "compile,eager", "--json")
    assert result.exit_code == 0, result.output
    for cell in json.loads(result.stdout)["batches"]:
        compiled, eager = cell["contenders"]
        assert compiled["error"].startswith("Unsupported: Data-dependent branching")
        assert compiled["milliseconds"] is cell["ratio of medians"] is None
        assert eager["milliseconds"] > 0
    assert json.loads(result.stdout)["tzwc"] is None


@pytest.mark.usefixtures("_lazy")
@pytest.mark.parametrize("result", [lambda x: torch.full_like(x, torch.nan), lambda x: x[:1]])
def test_a_wrong_result_is_seen(monkeypatch: pytest.MonkeyPatch, result: Callable[[Tensor], Tensor]) -> None:
    class Wrong(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return result(x)

    monkeypatch.setattr("tzwc.api.compile", lambda *_, **__: Wrong())
    (cell,) = tzwc.bench.capture.capture.run(Request("digits", (2,), "eager", ("tzwc",), rounds=2)).cells
    assert cell.to_dict()["contenders"][0]["deviation from eager"] is None
    assert cell.contenders[0].left_deviation < 1e-6


def test_what_became_of_the_module() -> None:
    fast = tzwc.compile(nn.Linear(2, 2), backend="eager")
    with torch.no_grad():
        fast(torch.ones(1, 2))
    found = outcome_of(fast)
    assert found is not None
    assert found.graphs == 1
    assert found.level.startswith("whole graph")
    assert outcome_of(nn.Linear(2, 2)) is None


def test_quiet_ends() -> None:
    before = logging.root.manager.disable
    with quiet():
        assert not logging.getLogger("torch._dynamo").isEnabledFor(logging.WARNING)
    assert logging.root.manager.disable == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--preset", "cifar11"], "preset 'cifar11' is unknown: choose from cifar10"),
        (["--preset", "smnist"], "'dot_product' only"),
        (["--contenders", "eager,jit"], "contender 'jit' is unknown: choose from eager, compile"),
        (["--contenders", ","], "no contenders"),
        (["--contenders", "compile_contiguous", "--backend", "eager"], "is a setting of Inductor"),
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
    assert Request().chosen == ("eager", "compile", "compile_static", "compile_contiguous", "tzwc")
    assert Request(backend="eager").chosen == ("eager", "compile", "compile_static", "tzwc")
    assert Request(contenders=("tzwc", "tzwc")).chosen == ("tzwc",)
