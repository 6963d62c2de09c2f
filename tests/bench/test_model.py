from __future__ import annotations

import json
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from tests.support.bench_models import ONE_BLOCK, alive
from tzwc.bench.model.cells import Cell, Contender, Plan, Yard
from tzwc.bench.model.contenders import ALLOCATOR, CONTENDERS, choose, environment, unfit
from tzwc.bench.model.run import Request, run
from tzwc.cli.main import app
from tzwc.errors import InvalidArgumentError
from tzwc.util.timing import Timing

QUICK = ["--batches", "2", "--modes", "inference", "--backend", "eager", "--rounds", "2", "--threads", "1"]


def bench(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["bench", "model", *arguments], env={"COLUMNS": "200"})


def test_json_has_every_figure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out.jsonl"
    (tmp_path / "one_block.py").write_text(ONE_BLOCK)
    monkeypatch.chdir(tmp_path)
    contender = ["--contenders", "eager+allocator"]  # one alone: a process imports for seconds
    result = bench(*QUICK, "--presets", "one_block:model", *contender, "--json", "--out", str(out))
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert (found["backend"], found["threads"]) == ("eager", 1)
    assert found["allocator"] == dict(ALLOCATOR)
    (cell,) = found["cells"]
    assert (cell["model"], cell["batch"], cell["mode"]) == ("one_block:model", 2, "inference")
    assert cell["FLOP a call"] > cell["FLOP that grow with the batch"] > 0
    assert cell["matrix products, GFLOP/s"] > 0
    assert cell["best peer"] == "eager+allocator"
    assert cell["error"] == ""
    (row,) = cell["contenders"]
    assert row["contender"] == "eager+allocator"
    assert row["milliseconds"] > 0
    assert row["rounds"] == 2
    assert row["ratio of medians"] == row["median of ratios"] == 1
    assert 0 < row["share of matrix products"] < 1
    assert row["first call, seconds"] > 0
    assert row["memory of the first call, MB"] > 0
    assert row["memory of a call, MB"] > 0
    assert row["as exact as eager"] is True
    assert row["note"] == row["error"] == ""
    events = [json.loads(line) for line in out.read_text().splitlines()]
    assert [event.pop("event") for event in events] == ["request", *["first call"] * 2, "round", "round", "cell"]
    assert events[-1] == cell


def by_name(cell: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {row["contender"]: row for row in cell["contenders"]}


@pytest.mark.usefixtures("pids")
def test_whatever_fails_is_told_and_does_not_lose_the_others() -> None:
    names = "eager,compile,contiguous,max_autotune,freezing,freezing+allocator,tzwc"
    result = bench("--presets", "digits", "--batches", "4", "--contenders", names, "--rounds", "3", "--limit", "15",
                   "--json")  # fmt: skip
    assert result.exit_code == 0, result.output
    inference, training = json.loads(result.stdout)["cells"]
    rows = by_name(inference)
    assert list(rows) == names.split(",")
    assert rows["compile"]["error"] == "no answer within 15 s"
    assert rows["contiguous"]["error"] == "ValueError: [no] layout"
    assert rows["max_autotune"]["error"] == "the process ended with exit code 1: no compiler"
    assert rows["freezing"]["error"] == "the process ended with exit code 5"
    assert rows["freezing"]["first call, seconds"] == 2
    for name in ("compile", "contiguous", "max_autotune", "freezing"):
        assert rows[name]["milliseconds"] is rows[name]["ratio of medians"] is None
    assert (rows["eager"]["milliseconds"], rows["tzwc"]["milliseconds"]) == (500, 250)
    assert inference["best peer"] == "eager"
    assert inference["ratios"] == {"tzwc": {"time ÷ best peer's": 0.5, "memory ÷ best peer's": 1}}  # compile failed
    assert (rows["tzwc"]["ratio of medians"], rows["tzwc"]["median of ratios"]) == (2, 2)
    assert rows["eager"]["share of matrix products"] == 0.4  # 20 of 100 a second, in half a second
    assert (rows["eager"]["as exact as eager"], rows["tzwc"]["as exact as eager"]) == (True, False)
    assert rows["eager"]["distance from float64"] == {"all": 0.07}  # the larger of two
    assert rows["tzwc"]["distance from float64"] == {"all": None}
    rows = by_name(training)
    assert rows["freezing+allocator"]["error"] == "frozen weights are for inference alone"
    assert rows["eager"]["share of matrix products"] == 0.6


def test_tables_for_people_and_progress_beside_them(pids: Path) -> None:
    result = bench("--presets", "digits", "--contenders", "eager,contiguous,freezing,tzwc", "--rounds", "2")
    assert result.exit_code == 0, result.output
    for text in ("digits, batch 16, inference", "digits, batch 16, training", "500.00 ms", "2.00×", "40%", "5, 4 MB",
                 "failed", "no part", "70%", "inf%", "ValueError: [no] layout", "the best one, eager"):  # fmt: skip
        assert text in result.stdout
    assert "first call of tzwc" in result.stderr
    assert "first call of" not in result.stdout
    assert alive(pids) == []


def test_an_interrupt_ends_all_processes_and_loses_nothing(pids: Path, tmp_path: Path) -> None:
    def interrupt() -> None:
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline and not over.wait(0.02):
            if len(list(pids.iterdir())) == 3:  # compile, which hangs, has come
                os.kill(os.getpid(), signal.SIGINT)
                return

    out, over = tmp_path / "out.jsonl", threading.Event()
    threading.Thread(target=interrupt).start()
    result = bench("--presets", "digits", "--contenders", "eager,compile", "--rounds", "2", "--out", str(out))
    over.set()
    assert result.exit_code == 130
    assert "interrupted" in result.stderr
    assert len(list(pids.iterdir())) == 3
    assert alive(pids) == []
    events = [json.loads(line) for line in out.read_text().splitlines()]
    assert [event.get("contender") for event in events] == [None, "matrix products", "eager"]


@pytest.mark.usefixtures("pids")
def test_cells_are_handed_over_as_they_come() -> None:
    request = Request(("digits",), (2,), ("inference",), contenders=("eager", "tzwc"), rounds=3)
    seen: list[Cell] = []
    result = run(request, seen.append)
    assert list(result.cells) == seen
    assert [len(c.timing.seconds) for c in seen[0].contenders if c.timing] == [3, 3]


@pytest.mark.usefixtures("pids")
@pytest.mark.parametrize("share", [False, True])
def test_twins_share_caches_when_asked(share: bool) -> None:
    names = ("eager", "eager+allocator", "tzwc")
    request = Request(("digits",), (2,), ("inference",), contenders=names, rounds=2, share_caches=share)
    found = [contender.note for contender in run(request).cells[0].contenders]
    assert len(set(found)) == (2 if share else 3)
    assert (found[0] == found[1]) is share


@pytest.mark.usefixtures("pids")
def test_long_cells_end_early() -> None:
    request = Request(("digits",), (2,), ("inference",), contenders=("eager",), rounds=9, seconds=0.0)
    (contender,) = run(request).cells[0].contenders
    assert contender.timing is not None
    assert len(contender.timing.seconds) == 2


def test_without_a_yardstick_or_a_peer() -> None:
    def timed(name: str, *seconds: float) -> Contender:
        return Contender(name, 1.0, timing=Timing(name, seconds), distances={"all": 0.0})

    pair = Cell(Plan("digits", 1, "inference"), Yard(), (timed("compile", 4.0, 4.0), timed("tzwc", 1.0, 1.0)))
    assert pair.ratios(pair.contenders[1]) == {"time ÷ best peer's": 0.25, "first call ÷ compile's": 1.0}
    cell = Cell(
        Plan("digits", 1, "inference"), Yard(error="no"), (timed("tzwc", 1.0, 2.0), timed("tzwc+allocator", 1.0, 1.0))
    )
    assert cell.peer is None
    assert cell.gains(cell.contenders[0]) is None
    assert cell.share(cell.contenders[0]) is None
    assert cell.agrees(cell.contenders[0]) is None
    assert cell.to_dict()["matrix products, GFLOP/s"] is None


def test_every_process_has_empty_caches_and_the_allocator_it_is_named_for(tmp_path: Path) -> None:
    plain, tuned = environment("compile", 2, tmp_path), environment("compile+allocator", 2, tmp_path)
    assert tuned.keys() - plain.keys() == ALLOCATOR.keys()
    assert plain["OMP_NUM_THREADS"] == "2"
    assert plain["TORCHINDUCTOR_CACHE_DIR"].startswith(str(tmp_path))
    assert plain["TZWC_CACHE_DIR"].startswith(str(tmp_path))


def test_contenders_and_cells_by_default() -> None:
    inductor = choose(None, "inductor")
    assert inductor[:4] == ("eager", "eager+allocator", "compile", "compile+allocator")
    assert {name.removesuffix("+allocator") for name in inductor} == CONTENDERS.keys() - {
        "freezing_max_autotune",
        "reduce_overhead",
    }
    assert choose(None, "eager") == ("eager", "eager+allocator", "compile", "compile+allocator", "tzwc",
                                     "tzwc+allocator")  # fmt: skip
    assert choose(["tzwc", "tzwc"], "eager") == ("tzwc",)
    assert unfit("freezing", "inference") == ""
    assert [str(plan) for plan in Request(("cifar10", "long")).plans] == [
        "cifar10, batch 1, inference",
        "cifar10, batch 16, inference",
        "cifar10, batch 64, inference",
        "cifar10, batch 16, training",
        "long, batch 1, inference",
        "long, batch 1, training",
    ]


@pytest.mark.parametrize("wrong", [{"rounds": 1}, {"limit": 0.0}, {"limit": -1.0}, {"limit": float("nan")}])
def test_a_request_that_measures_nothing_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(
        InvalidArgumentError, match="{}={!r}.*: at least 2, and more than 0".format(*next(iter(wrong.items())))
    ):
        Request(**wrong)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--presets", "cifar11"], "preset 'cifar11' is unknown: choose from cifar10"),
        (["--presets", "torch.nn:ReLU"], "ReLU does not say what it takes"),
        (["--presets", "nowhere:model"], "there is no module 'nowhere'"),
        (["--presets", ","], "no presets"),
        (["--modes", "trainig"], "mode 'trainig' is unknown: choose from inference, training"),
        (["--modes", ","], "no modes"),
        (["--contenders", "eager,jit"], "contender 'jit' is unknown: choose from eager, compile"),
        (["--contenders", ","], "no contenders"),
        (["--contenders", "freezing+allocator", "--backend", "eager"], "is a setting of Inductor"),
        (["--batches", "1,x"], "batches '1,x': expected numbers"),
        (["--batches", "0"], "sizes of at least 1"),
        (["--backend", "eagr"], "backend='eagr'"),
        (["--rounds", "1"], "rounds"),
        (["--threads", "0"], "threads"),
        (["--limit", "0"], "limit"),
        (["--out", "no/such/folder.jsonl"], "cannot be written: No such file"),
    ],
)
def test_what_is_not_understood_is_named(arguments: list[str], message: str) -> None:
    result = bench(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr
