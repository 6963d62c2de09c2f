"""Recipes and what they are made into: optimisers, learning rates, augmented images, processes."""

from __future__ import annotations

import dataclasses
import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn

from tests.support.training_toy import RECIPE, make_data, make_model
from tzwc.errors import InvalidArgumentError
from tzwc.training import Checkpoint, CheckpointError, Trainer, augmentation, distributed, loop, recipe
from tzwc.training.checkpoint import optimizer_state
from tzwc.training.interruption import listening


def test_a_learning_rate_that_only_rises() -> None:
    rising = dataclasses.replace(RECIPE, epochs=2, warm_up=2.0)
    assert rising.lr_at(1.0) == pytest.approx(rising.lr / 2)
    assert rising.lr_at(2.0) == rising.lr_at(3.0) == rising.lr


def test_what_an_optimiser_says_of_its_options_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def refusing(*_: object, **__: object) -> None:
        raise InvalidArgumentError("momentum = 2: expected less than 1")

    monkeypatch.setitem(recipe._OWN, RECIPE.optimizer, refusing)
    with pytest.raises(InvalidArgumentError, match=r"^momentum = 2: expected less than 1$"):
        RECIPE.make_optimizer(make_model().parameters())


@pytest.mark.parametrize("crop", [4, 7])
def test_a_crop_wider_than_the_images_is_refused(crop: int) -> None:
    images, generator = torch.rand(2, 1, 4, 6), torch.Generator()
    with pytest.raises(InvalidArgumentError, match=rf"crop = {crop}: expected less than the images' 4×6"):
        augmentation.augment(images, generator, crop=crop, flip=False)
    sequences = images[..., 0]
    assert augmentation.augment(sequences, generator, crop=crop, flip=True) is sequences


def test_numbers_in_the_state_of_an_optimiser_are_kept() -> None:
    class Counting(torch.optim.SGD):
        def count(self) -> None:
            for parameter in self.param_groups[0]["params"]:
                self.state[parameter]["calls"] = 3

    model = nn.Linear(2, 2)
    made = Counting(model.parameters(), lr=0.1, momentum=0.9)
    model(torch.ones(1, 2)).sum().backward()
    made.step()
    made.count()
    tensors, rest = optimizer_state(made)
    assert sorted(tensors) == ["0/momentum_buffer", "1/momentum_buffer"]
    assert rest["values"] == {"0": {"calls": 3}, "1": {"calls": 3}}


def test_the_time_of_several_processes_is_not_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Trainer(make_model(), make_data(), RECIPE)
    monkeypatch.setattr(distributed, "world", lambda: 2)
    with pytest.raises(InvalidArgumentError, match=r"seconds = 1\.0: expected .*None with several processes"):
        run.fit(seconds=1.0)


def test_one_process_is_its_own_mean() -> None:
    values = [1.0, 2.5]
    assert distributed.mean(values) is values


def test_on_gpus_every_process_takes_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[Any] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "set_device", done.append)
    monkeypatch.setattr(dist, "init_process_group", done.append)
    monkeypatch.setattr(dist, "get_backend", lambda: done[1])
    monkeypatch.setattr(dist, "destroy_process_group", lambda: done.append("end"))
    for name, value in (("WORLD_SIZE", "4"), ("RANK", "3"), ("LOCAL_RANK", "1")):
        monkeypatch.setitem(os.environ, name, value)
    with distributed.together():
        assert done == [1, "nccl"]
    assert done == [1, "nccl", "end"]


def test_outside_of_the_main_thread_no_signal_is_collected() -> None:
    before, found = signal.getsignal(signal.SIGINT), []

    def listen() -> None:
        with listening(found.append) as request:
            found.append((request.number, signal.getsignal(signal.SIGINT) is before))

    thread = threading.Thread(target=listen)
    thread.start()
    thread.join()
    assert found == [(0, True)]


def test_a_second_request_to_stop_is_not_said_again() -> None:
    said: list[str] = []
    with listening(said.append) as request:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)
        assert request.number == signal.SIGTERM
    assert said == ["stopping behind this step; Ctrl-C again stops at once"]


def test_every_epoch_is_a_row_for_tensorboard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[Any] = []
    monkeypatch.setattr(loop, "has_tensorboard", lambda: True)
    monkeypatch.setattr(loop, "write_tensorboard", lambda folder, row: rows.append((folder, row["epoch"])))
    Trainer(make_model(), make_data(), dataclasses.replace(RECIPE, epochs=2), folder=tmp_path).fit()
    assert rows == [(tmp_path / "tensorboard", 1), (tmp_path / "tensorboard", 2)]


def test_checkpoints_that_do_not_fit(tmp_path: Path) -> None:
    Trainer(make_model(), make_data(), RECIPE, folder=tmp_path).fit(steps=1)
    saved = Checkpoint.load(tmp_path)
    with pytest.raises(CheckpointError, match="spec: the checkpoint holds another model"):
        Trainer(make_model(dropout=0.2), make_data(), RECIPE).resume(saved)
    with pytest.raises(CheckpointError, match=r"step = 99: the checkpoint is beyond the end, 9 steps"):
        Trainer(make_model(), make_data(), RECIPE).resume(dataclasses.replace(saved, step=99))
    with pytest.raises(CheckpointError, match="holds no declaration: its model is no Terminator"):
        dataclasses.replace(saved, spec=None).model()
