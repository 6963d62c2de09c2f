"""Two processes, connected by gloo, against one."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import socket
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn

import tzwc
from tests.training.toy import RECIPE, make_data, make_model
from tzwc.training import Checkpoint, Interrupted, Trainer, workers
from tzwc.training.progress import Progress

SGD = dataclasses.replace(RECIPE, optimizer="SGD", micro_batches=2, crop=0, flip=False, lr=0.1)


def linear() -> nn.Module:
    """Without statistics of the batch, so that it does not matter how the batch is divided."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 3)).double()


def process(rank: int, port: int, folder: str) -> None:
    os.environ.update(RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    with workers.together():
        model = linear()
        run = Trainer(model, make_data(), SGD, folder=Path(folder) / "linear")
        run.fit()
        torch.testing.assert_close(workers.mean([float(rank)]), [0.5])

        # A compiled Terminator, accumulating; one process is interrupted, and both stop behind the same step.
        terminator = make_model(seed=rank)  # DistributedDataParallel gives both those of the first
        compiled = tzwc.compile(terminator, backend="eager")
        progress = Interrupting() if rank == 1 else None
        run = Trainer(
            terminator, make_data(), SGD, folder=Path(folder) / "terminator", compiled=compiled, progress=progress
        )
        with contextlib.suppress(Interrupted):
            run.fit(steps=4)
        stopped = run.step, flat(terminator)

        # Both go on from the checkpoint, which the first of them wrote, and do what two that were not stopped do.
        dist.barrier()
        ends = []
        for resumed in (True, False):
            terminator = make_model(seed=0)
            compiled = tzwc.compile(terminator, backend="eager")
            run = Trainer(terminator, make_data(), SGD, compiled=compiled)
            if resumed:
                run.resume(Checkpoint.load(Path(folder) / "terminator"))
            run.fit(steps=5)
            ends.append(flat(terminator))
        found = {"step": stopped[0], "parameters": stopped[1], "resumed": ends[0], "straight": ends[1]}
        torch.save(found, Path(folder) / f"{rank}.pt")


def flat(model: nn.Module) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


class Interrupting(Progress):
    """Presses Ctrl-C after the first step."""

    def advance(self, loss: float) -> None:
        super().advance(loss)
        if self._steps == 0:
            signal.raise_signal(signal.SIGINT)
        self._steps += 1

    _steps = 0


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("workers")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.spawn(process, (port, str(folder)), nprocs=2)
    return folder


def test_two_processes_do_what_one_does(finished: Path) -> None:
    one = Trainer(linear(), make_data(), SGD)
    one.fit()
    two = Checkpoint.load(finished / "linear")
    assert two.step == one.step
    for name, parameter in one.model.named_parameters():
        torch.testing.assert_close(two.parameters[name], parameter.detach(), rtol=1e-9, atol=1e-12)
    assert two.history[-1]["loss"] == pytest.approx(one.history[-1]["loss"], rel=1e-9)


def test_processes_stay_together_and_stop_together(finished: Path) -> None:
    first, second = (torch.load(finished / f"{rank}.pt", weights_only=True) for rank in range(2))
    assert torch.equal(first["parameters"], second["parameters"])
    assert first["step"] == second["step"] < 4
    assert Checkpoint.load(finished / "terminator").step == first["step"]


def test_processes_go_on_as_if_they_had_not_been_stopped(finished: Path) -> None:
    for rank in range(2):
        found = torch.load(finished / f"{rank}.pt", weights_only=True)
        assert torch.equal(found["resumed"], found["straight"])
        assert not torch.equal(found["resumed"], found["parameters"])
