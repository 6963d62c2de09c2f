"""``tzwc train``, ``evaluate`` and ``predict``, on a folder of small files and on the digits."""

from __future__ import annotations

import dataclasses
import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from typer.testing import CliRunner, Result

from tests.support.training_toy import SPEC
from tzwc.cli.main import app
from tzwc.models import terminator_spec
from tzwc.training import TASKS, Checkpoint, Interrupted, Recipe, Trainer, distributed, loop, tasks

Invoke = Callable[..., Result]


@pytest.fixture
def invoke(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Invoke:
    """Run a command in an empty folder; the task ``digits`` has a small model and a short recipe."""
    monkeypatch.chdir(tmp_path)
    small = dataclasses.replace(SPEC, sizes=(8, 8), classes=10)
    recipe = Recipe(epochs=2, batch=512, lr=1e-2, warm_up=0)
    small_tasks = {**TASKS, "digits": tasks.Task("digits", "digits", small, recipe)}
    monkeypatch.setattr(tasks, "TASKS", small_tasks)
    return lambda *arguments: CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200"})


def test_train_stop_resume_evaluate_predict(invoke: Invoke, tmp_path: Path) -> None:
    common = ("train", "digits", "--with", "eager", "--out", "run", "--set", "ema=0.9")
    result = invoke(*common, "--steps", "3")
    assert result.exit_code == 0, result.output
    assert "step 3 of 4" in result.stdout
    result = invoke(*common)
    assert result.exit_code == 2
    assert "it holds a checkpoint; give --resume" in result.output
    result = invoke(*common, "--resume", "--lr", "0.5")
    assert result.exit_code == 1
    assert "lr = 0.5: the checkpoint was made with 0.01" in result.output
    result = invoke(*common, "--resume", "--json")
    assert result.exit_code == 0, result.output
    history = json.loads(result.stdout)["history"]
    assert [row["epoch"] for row in history] == [1, 2]
    assert (tmp_path / "run" / "log.csv").read_text().splitlines()[0].startswith("epoch,step,lr,loss")

    result = invoke("evaluate", "run", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["samples"] == 384
    result = invoke("evaluate", "run", "--resolution", "16x16", "--kernels", "interpolate")
    assert "digits:" in result.stdout
    for sizes, message in (
        ("16", "sizes"),
        ("16x16:float64", "expected sizes alone"),
        ("0x4", "expected sizes joined"),
    ):
        result = invoke("evaluate", "run", "--resolution", sizes)
        assert result.exit_code == 2
        assert message in result.output

    image = torch.rand(8, 8).numpy()
    numpy.save("one.npy", image)
    numpy.save("two.npy", image[None])
    numpy.save("wrong.npy", image[:4])
    found = json.loads(invoke("predict", "run", "one.npy", "two.npy", "--json").stdout)
    assert [entry["file"] for entry in found] == ["one.npy", "two.npy"]
    assert found[0]["label"] == found[1]["label"]
    assert found[0]["probability"] == found[1]["probability"]  # whatever else is asked for
    shown = invoke("predict", "run", "one.npy").stdout
    assert shown == f"one.npy: {found[0]['label']} ({found[0]['probability']:.1%})\n"
    result = invoke("predict", "run", "wrong.npy")
    assert result.exit_code == 1
    assert "found shape (4, 8), expected (1, 8, 8)" in result.output


def test_fewer_epochs_than_the_warm_up_has(invoke: Invoke, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It is shortened, unless it was asked for."""
    entry = tasks.TASKS["digits"]
    slow = dataclasses.replace(entry, recipe=dataclasses.replace(entry.recipe, epochs=20, warm_up=2))
    monkeypatch.setattr(tasks, "TASKS", {**tasks.TASKS, "digits": slow})
    common = ("train", "digits", "--with", "eager", "--steps", "1", "--out")
    for epochs, warm_up in ((1, 0.1), (2, 0.2), (3, 2)):
        result = invoke(*common, str(epochs), "--epochs", str(epochs))
        assert result.exit_code == 0, result.output
        assert Checkpoint.load(tmp_path / str(epochs)).recipe.warm_up == pytest.approx(warm_up)
    assert invoke(*common, "1", "--epochs", "1", "--resume").exit_code == 0
    result = invoke(*common, "4", "--epochs", "1", "--set", "warm_up=2")
    assert result.exit_code == 2
    assert "warm_up = 2: expected a number from 0 to 1" in result.output


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_training_behind_a_step(
    number: signal.Signals, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    common = ("train", "digits", "--with", "eager", "--out", "run")
    penalty = loop.norm_penalty

    def interrupted(*arguments: Any) -> torch.Tensor:
        signal.raise_signal(number)
        return penalty(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "norm_penalty", interrupted)
        result = invoke(*common)
    assert result.exit_code == 128 + number
    assert "stopped after step 1 of 4; --resume goes on from run/last.safetensors" in result.stderr
    assert result.stdout == ""
    assert "step 4 of 4" in invoke(*common, "--resume").stdout


def test_what_runs_the_model_and_on_how_many_threads(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    threads, backends = list[int](), list[str]()
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    monkeypatch.setattr(torch, "compile", lambda model, backend: backends.append(backend) or model)
    result = invoke("train", "digits", "--with", "compile", "--backend", "aot_eager", "--steps", "1", "--threads", "3")
    assert result.exit_code == 0, result.output
    assert "step 1 of 4; checkpoint and log are in out/train/digits/" in result.stdout
    assert threads == [3]
    assert backends == ["aot_eager"]


@pytest.mark.parametrize(
    ("outcome", "code"), [(None, 0), (Interrupted("stopped", signal.SIGTERM), 143), (KeyboardInterrupt(), 130)]
)
@pytest.mark.parametrize("rank", [0, 1])
def test_only_the_first_of_several_processes_speaks(
    rank: int, outcome: BaseException | None, code: int, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fit(*_: object, **__: object) -> list[object]:
        monkeypatch.setattr(distributed, "rank", lambda: rank)
        if outcome is not None:
            raise outcome
        return []

    monkeypatch.setattr(Trainer, "fit", fit)
    result = invoke("train", "digits", "--with", "eager")
    assert result.exit_code == code, result.output
    assert bool(result.output) is (rank == 0)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("train", "digit"), 2, "preset = 'digit': expected one of digits,"),
        (("train", "cifar10"), 1, "--data DIR"),
        (("train", "digits", "--set", "ema"), 2, "--set 'ema': expected FIELD=VALUE"),
        (("train", "digits", "--set", "emma=1"), 2, "did you mean 'ema'"),
        (("train", "digits", "--set", "optimizer=adamm"), 2, "optimizer = 'adamm': expected one of"),
        (("train", "digits", "--with", "magic"), 2, "--with 'magic': choose one of tzwc, compile, eager"),
        (("train", "digits", "--precision", "int8"), 2, "precision = 'int8': expected one of float32"),
        (("train", "digits", "--resume"), 1, "last.safetensors: no such checkpoint"),
        (("evaluate", "nothing"), 1, "nothing: no such checkpoint"),
        (("evaluate", "nothing", "--kernels", "interpolate"), 2, "--kernels interpolate: give --resolution as well"),
    ],
)
def test_what_cannot_be_done_is_said(invoke: Invoke, arguments: tuple[str, ...], code: int, message: str) -> None:
    result = invoke(*arguments)
    assert result.exit_code == code, result.output
    assert message in " ".join(result.output.split())


@pytest.mark.parametrize("command", [("evaluate", "run"), ("predict", "run", "one.npy")])
def test_ctrl_c_while_a_checkpoint_is_used(
    command: tuple[str, ...], invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Checkpoint, "load", lambda _: signal.raise_signal(signal.SIGINT))
    result = invoke(*command)
    assert result.exit_code == 130
    assert result.stderr == "error: interrupted\n"


def test_a_file_that_is_no_checkpoint(invoke: Invoke) -> None:
    Path("short.safetensors").write_bytes(b"no")
    result = invoke("evaluate", "short.safetensors")
    assert "short.safetensors: not a whole safetensors file" in result.output
    from safetensors.torch import save_file

    save_file({"x": torch.ones(1)}, "other.safetensors")
    assert "holds no 'tzwc-training-1' metadata" in invoke("evaluate", "other.safetensors").output


def test_every_task_is_consistent() -> None:
    for name, entry in TASKS.items():
        assert entry.name == name
        assert Recipe.from_dict(json.loads(json.dumps(entry.recipe.to_dict()))).to_dict() == entry.recipe.to_dict()
    assert TASKS["digits"].spec == terminator_spec("digits")
