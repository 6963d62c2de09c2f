"""Two processes, connected by gloo, against one."""

from __future__ import annotations

import contextlib
import dataclasses
import signal
import threading
import time
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

import tzwc
from tests.support.processes import spawn_workers
from tests.support.training_toy import RECIPE, make_data, make_model
from tzwc.training import Checkpoint, Interrupted, Trainer, distributed
from tzwc.training.progress import Progress

pytestmark = pytest.mark.slow(reason="every process imports torch, and trains four times")

SGD = dataclasses.replace(RECIPE, optimizer="SGD", micro_batches=2, crop=0, flip=False, lr=0.1)


def linear() -> nn.Module:
    """Without statistics of the batch, so that it does not matter how the batch is divided."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 3)).double()


def process(rank: int, folder: str) -> None:
    with distributed.together():
        model = linear()
        run = Trainer(model, make_data(), SGD, folder=Path(folder) / "linear")
        run.fit()
        torch.testing.assert_close(distributed.mean([float(rank)]), [0.5])

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
    assert spawn_workers(process, str(folder)) == [0, 0]
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


def outlived(_rank: int) -> None:
    """The trainer is freed behind the block, while a thread of gloo is still busy with Python code."""
    entered, leave = threading.Event(), threading.Event()

    def slow(future: torch.futures.Future[list[Tensor]]) -> list[Tensor]:
        entered.set()
        leave.wait()
        for _ in range(20):  # the destructor waits for this thread, which takes Python's lock again and again
            time.sleep(0.05)
        return future.value()

    with distributed.together():
        run = Trainer(linear(), make_data(), SGD)
        run.fit(steps=1)
        work = dist.all_reduce(torch.ones(1), async_op=True)
        work.get_future().then(slow)
        entered.wait()
        del work
        leave.set()
    del run


def test_a_trainer_may_outlive_the_group() -> None:
    assert spawn_workers(outlived, seconds=300) == [0, 0]


def one_fails(rank: int, how: str, folder: str) -> None:
    class Failing(Progress):
        def advance(self, loss: float) -> None:
            super().advance(loss)
            if rank == 1 and how == "killed":
                signal.raise_signal(signal.SIGKILL)
            if rank == 1:
                raise KeyboardInterrupt if how == "interrupted" else ValueError("of its own")

    expected = {"failed": ValueError, "interrupted": KeyboardInterrupt}.get(how) if rank else distributed.WorkersError
    assert expected is not None or how == "killed"
    with pytest.raises(expected or ValueError) as caught, distributed.together():
        Trainer(linear(), make_data(), SGD, progress=Failing()).fit()
    assert not dist.is_initialized()
    (Path(folder) / str(rank)).write_text(str(caught.value))


@pytest.mark.parametrize("how", ["failed", "interrupted", "killed"])
def test_when_one_goes_the_other_ends_and_says_so(how: str, tmp_path: Path) -> None:
    codes = spawn_workers(one_fails, how, str(tmp_path), seconds=300)
    assert codes == [0, -signal.SIGKILL if how == "killed" else 0]
    assert "process 0 of 2 lost another one, which failed, was ended" in (tmp_path / "0").read_text()
    if how == "failed":
        assert (tmp_path / "1").read_text() == "of its own"


def one_does_not_come(rank: int, folder: str) -> None:
    done = Path(folder) / "done"
    if rank == 0:
        with (
            pytest.raises(distributed.WorkersError, match="did not come"),
            distributed.together(timedelta(seconds=0.5)),
        ):
            pass
        done.touch()
        return
    with contextlib.suppress(distributed.WorkersError), distributed.together():
        while not done.exists():
            time.sleep(0.01)


def test_those_that_are_done_do_not_wait_for_ever(tmp_path: Path) -> None:
    assert spawn_workers(one_does_not_come, str(tmp_path), seconds=300) == [0, 0]


def test_errors_that_have_nothing_to_do_with_others_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(RuntimeError, match="own"), distributed.together():
        raise RuntimeError("own")
