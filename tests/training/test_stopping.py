"""Runs that are stopped, by signals or by what the disk refuses, lose nothing."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.support.training_toy import RECIPE, assert_same, trainer
from tzwc.runtime.lowered_code import LoweredCode
from tzwc.training import Checkpoint, CheckpointError, Interrupted, loop
from tzwc.training.ema import MovingAverage


def on_entering(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, number: signal.Signals) -> None:
    """Send a signal when ``owner.name`` is called for the first time."""
    original = getattr(owner, name)
    sent: list[int] = []

    def call(*args: Any, **kwargs: Any) -> Any:
        if not sent:
            sent.append(1)
            signal.raise_signal(number)
        return original(*args, **kwargs)

    monkeypatch.setattr(owner, name, call)


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (loop, "augment"),  # before the first forward
        (loop, "norm_penalty"),  # between forward and backward
        (MovingAverage, "update"),  # behind the optimiser's step
        (loop, "evaluate"),  # while the parameters are the average
        (Checkpoint, "save"),
        (os, "fsync"),
        (loop, "write_csv"),
        (LoweredCode, "_lower"),
    ],
    ids=["batch", "loss", "average", "evaluation", "checkpoint", "file", "log", "compilation"],
)
def test_ctrl_c_at_any_moment_loses_nothing(
    owner: Any, name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    recipe = dataclasses.replace(RECIPE, epochs=1)
    options = {"backend": "eager"} if owner is LoweredCode else {}  # compiling takes seconds, and is one moment
    straight = trainer(recipe, **options)
    straight.fit()
    stopped = trainer(recipe, tmp_path, **options)
    with monkeypatch.context() as patch:
        on_entering(patch, owner, name, signal.SIGINT)
        with contextlib.suppress(Interrupted):  # behind the last step there is nothing to interrupt
            stopped.fit()
    assert len(stopped.losses) == stopped.step == (3 if name in ("evaluate", "save", "fsync", "write_csv") else 1)
    resumed = trainer(recipe, tmp_path, **options)
    resumed.resume(Checkpoint.load(tmp_path))
    assert resumed.step == stopped.step
    resumed.fit()
    assert_same(straight, resumed)
    assert [path.name for path in tmp_path.glob("*last*")] == ["last.safetensors"]


@pytest.mark.parametrize("name", ["fsync", "replace"])
def test_what_stops_a_checkpoint_from_being_written_leaves_the_last_one(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    trainer(folder=tmp_path).fit(steps=1)
    before = (tmp_path / "last.safetensors").read_bytes()
    run = trainer(folder=tmp_path)

    def fail(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(*((os, "fsync") if name == "fsync" else (Path, "replace")), fail)
    with pytest.raises(
        CheckpointError, match=r"cannot be written to \(No space left on device\); what was there before"
    ):
        run.fit(steps=2)
    assert (tmp_path / "last.safetensors").read_bytes() == before
    assert [path.name for path in tmp_path.glob("*last*")] == ["last.safetensors"]


def test_a_folder_that_cannot_be_written_to_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match=r"file/run: no checkpoint can be written there \(Not a directory\)"):
        trainer(folder=tmp_path / "file" / "run")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_behind_a_step_and_loses_nothing(number: signal.Signals, tmp_path: Path) -> None:
    straight = trainer()
    straight.fit()
    stopped = trainer(folder=tmp_path)
    calls: list[int] = []

    def once(*_: Any) -> None:
        calls.append(1)
        if len(calls) == 5:
            signal.raise_signal(number)

    stopped.model.register_forward_hook(once)
    handler = signal.getsignal(number)
    with pytest.raises(Interrupted, match=r"stopped after step \d of 9") as caught:
        stopped.fit()
    assert caught.value.number == number
    assert signal.getsignal(number) is handler
    resumed = trainer(folder=tmp_path)
    resumed.resume(Checkpoint.load(tmp_path))
    assert 0 < resumed.step < 9
    resumed.fit()
    assert_same(straight, resumed)


def test_a_second_ctrl_c_stops_at_once(tmp_path: Path) -> None:
    stopped = trainer(folder=tmp_path)
    stopped.model.register_forward_hook(lambda *_: (signal.raise_signal(signal.SIGINT), None)[1])
    stopped.model.register_forward_hook(lambda *_: (signal.raise_signal(signal.SIGINT), None)[1])
    with pytest.raises(KeyboardInterrupt):
        stopped.fit()
