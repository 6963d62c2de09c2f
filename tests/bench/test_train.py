"""``tzwc bench train``: what it asks for, what it measures, and what it keeps when it is stopped."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from tests.support.interruption import RUN, press
from tests.support.training_toy import SPEC
from tzwc.bench.train import run as train
from tzwc.bench.train.run import WORKLOADS, Contender, Request, run
from tzwc.bench.train.tables import show_facts, show_workload
from tzwc.cli.main import app
from tzwc.data import load
from tzwc.errors import InvalidArgumentError


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every task is the digits with a small model."""
    spec = dataclasses.replace(SPEC, sizes=(8, 8), classes=10, dropout=0.0)
    monkeypatch.setattr(train, "_work", lambda _: (load("digits"), spec))


@pytest.mark.usefixtures("small")
def test_contenders_take_the_same_steps() -> None:
    request = Request(("digits",), ("eager", "tzwc"), "eager", rounds=2)
    bench = run(request)
    eager, fast = bench.found["digits"]
    assert (eager.gap, eager.timing.name, len(fast.timing.seconds)) == (0.0, "eager", 2)
    assert fast.gap < 1e-4  # float32
    assert eager.epoch == pytest.approx(22 * eager.timing.median)
    assert json.loads(json.dumps(bench.to_dict()))["workloads"]["digits"][1]["first"] > 0
    console = Console(record=True, width=120)
    show_facts(request, console)
    show_workload("digits", bench.found["digits"], console)
    assert "faster than the first" in console.export_text()


@pytest.mark.usefixtures("small")
def test_a_contender_that_fails_leaves_the_others_their_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("no [compiler]\nhere")

    monkeypatch.setattr("torch.compile", fail)
    found = run(Request(("digits",), ("compile", "eager"), "eager", rounds=2)).found["digits"]
    assert [(c.timing.name, c.error.partition("\n")[0], c.gap == 0.0) for c in found] == [
        ("compile", "RuntimeError: no [compiler]", False),
        ("eager", "", True),
    ]
    assert json.loads(json.dumps(found[0].to_dict(), allow_nan=False))["first"] is None
    assert Contender.of(found[1].to_dict()) == found[1]
    console = Console(record=True, width=120)
    show_workload("digits", found, console)
    text = console.export_text()
    assert "failed" in text
    assert "compile: RuntimeError: no [compiler]" in text


@pytest.mark.usefixtures("small")
def test_the_same_command_goes_on_where_it_was_stopped(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Ctrl-C in the second task: the first one is in the file, and what the second one has is shown."""
    out = tmp_path / "out.jsonl"
    command = ["bench", "train", "--tasks", "digits,sdigits", "--contenders", "eager", "--backend", "eager"]
    command += ["--rounds", "4", "--out", str(out)]
    steps = interrupted_at(train._Racer.step, 4 + 3)
    with monkeypatch.context() as patch:
        patch.setattr(train._Racer, "step", steps)
        result = CliRunner().invoke(app, command)
    assert result.exit_code == 130, result.output
    assert "interrupted" in result.stderr
    assert ["digits" in result.stdout, "sdigits, 2 steps" in result.stdout] == [True, True]
    assert [json.loads(line)["kind"] for line in out.read_text().splitlines()] == ["digits"]

    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    assert "digits: the first steps" not in result.stderr.replace("sdigits", "")
    assert [json.loads(line)["kind"] for line in out.read_text().splitlines()] == ["digits", "sdigits"]


def interrupted_at(step: Callable[..., None], number: int) -> Callable[..., None]:
    """``step`` that is interrupted when it is called for the time ``number``."""
    calls: list[int] = []

    def call(*arguments: Any) -> None:
        calls.append(1)
        if len(calls) == number:
            raise KeyboardInterrupt
        step(*arguments)

    return call


def test_a_real_ctrl_c_stops_at_once(tmp_path: Path) -> None:
    command = (*RUN, "bench", "train", "--tasks", "digits", "--contenders", "eager", "--backend", "eager")
    code, shown = press((*command, "--rounds", "100000"), tmp_path, "steps of each, in turns")
    assert code == 130, shown
    assert "interrupted" in shown
    assert "Traceback" not in shown


@pytest.mark.parametrize("contenders", [3, [{}], [{"timing": {"name": "eager", "seconds": []}, "error": ""}]])
def test_a_file_that_holds_something_else(contenders: Any, tmp_path: Path) -> None:
    request = Request(("digits",), ("eager",), "eager", rounds=2, out=tmp_path / "out.jsonl")
    line = {"kind": "digits", "number": 0, "of": request.identity, "found": {"contenders": contenders}}
    (tmp_path / "out.jsonl").write_text(json.dumps(line) + "\n")
    with pytest.raises(InvalidArgumentError, match="its line about digits is no measurement of training"):
        run(request)


def test_a_file_that_cannot_be_written_is_said_before_anything_is_measured(tmp_path: Path) -> None:
    request = Request(("digits",), ("eager",), "eager", rounds=2, out=tmp_path / "missing" / "out.jsonl")
    with pytest.raises(InvalidArgumentError, match=r"--out .*cannot be written: No such file or directory"):
        run(request)


def test_every_workload_fits_its_model() -> None:
    for name in WORKLOADS:
        if name != "mnist1d":  # takes seconds to make
            data, spec = train._work(name)
            assert (data.channels, *data.grid) == (spec.in_channels, *spec.sizes)


def test_every_peer_that_trains_is_a_contender() -> None:
    assert Request(("digits",)).chosen == ("eager", "compile", "contiguous", "max_autotune", "tzwc")
    assert Request(("digits",), backend="eager").chosen == ("eager", "compile", "tzwc")


@pytest.mark.parametrize(
    ("workloads", "fields", "message"),
    [
        (("digit",), {}, "workloads 'digit': expected one of digits"),
        (("digits",), {"contenders": ("jit",)}, "contenders 'jit'"),
        (("digits",), {"contenders": ("freezing",)}, "contenders 'freezing'"),
        (("digits",), {"contenders": ("contiguous",), "backend": "eager"}, "contenders 'contiguous'"),
        (("digits",), {"contenders": ()}, "contenders: none given"),
        (("digits",), {"rounds": 1}, "rounds = 1: expected at least 2"),
        (("digits",), {"backend": "indcutor"}, "backend='indcutor' is not known"),
    ],
)
def test_requests_that_make_no_sense(workloads: Sequence[str], fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        Request(workloads, **fields)
