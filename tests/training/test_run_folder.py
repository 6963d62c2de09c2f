"""What a run checks and keeps in order before it begins: its folder, and that model, data and recipe fit."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.training_toy import RECIPE, make_data, make_model
from tzwc.data import Split
from tzwc.errors import InvalidArgumentError
from tzwc.training import Checkpoint, CheckpointError, Trainer, evaluate
from tzwc.training.run_folder import alone

pytest.importorskip("fcntl")


def test_two_runs_in_one_folder(tmp_path: Path) -> None:
    run = Trainer(make_model(), make_data(), RECIPE, folder=tmp_path)
    with alone(tmp_path), pytest.raises(CheckpointError, match="another run writes there; wait for it, or take"):
        run.fit(steps=1)
    assert run.step == 0
    run.fit(steps=1)
    assert Checkpoint.load(tmp_path).step == 1


def test_the_lock_of_a_killed_run_is_gone_and_its_half_written_files_too(tmp_path: Path) -> None:
    code = "import sys, pathlib, time; from tzwc.training.run_folder import alone\n"
    code += "with alone(pathlib.Path(sys.argv[1])): print('in', flush=True); time.sleep(10_000)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, env=environment
    ) as other:
        try:
            assert other.stdout is not None
            assert other.stdout.readline() == b"in\n"
            run = Trainer(make_model(), make_data(), RECIPE, folder=tmp_path)
            for name in (".last.safetensors.123", ".log.csv.123"):
                (tmp_path / name).write_bytes(b"half")
            with pytest.raises(CheckpointError, match="another run writes there"):
                run.fit(steps=1)
            assert len(list(tmp_path.glob(".*"))) == 2
        finally:
            other.kill()
    run.fit(steps=1)
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["last.safetensors", "log.csv"]


def test_models_that_do_not_fit_the_data_are_refused_at_once() -> None:
    for changes, message in (
        ({"classes": 2}, "model: it tells 2 classes, but toy has 3"),
        ({"sizes": (5, 5)}, r"model: it reads \(1, 5, 5\), channels first, but the samples of toy are \(1, 4, 4\)"),
        ({"in_channels": 3}, r"model: it reads \(3, 4, 4\)"),
    ):
        with pytest.raises(InvalidArgumentError, match=message):
            Trainer(make_model(**changes), make_data(), RECIPE)
    Trainer(make_model(classes=5), make_data(), RECIPE).fit(steps=1)  # more classes than there are do no harm


def test_nothing_to_evaluate_with() -> None:
    data = make_data()
    empty = Split(data.test.inputs[:0], data.test.labels[:0])
    with pytest.raises(InvalidArgumentError, match="data = 'toy': no samples are held out"):
        Trainer(make_model(), dataclasses.replace(data, test=empty), RECIPE)
    with pytest.raises(InvalidArgumentError, match="split: it has no samples"):
        evaluate(make_model(), empty, data.normalise)


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan")])
def test_no_time_at_all(seconds: float) -> None:
    with pytest.raises(InvalidArgumentError, match="expected more than 0"):
        Trainer(make_model(), make_data(), RECIPE).fit(seconds=seconds)


def test_a_log_has_its_heading_before_there_is_an_epoch(tmp_path: Path) -> None:
    Trainer(make_model(), make_data(), RECIPE, folder=tmp_path).fit(steps=1)
    assert (tmp_path / "log.csv").read_text().splitlines() == [
        "epoch,step,lr,loss,accuracy,test_loss,test_accuracy,seconds"
    ]
