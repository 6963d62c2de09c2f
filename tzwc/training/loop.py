"""The training loop.

Nothing random outlives a step: the order of an epoch, the augmentation of a step and its dropout each come from the
seed and the number of the epoch or step. A checkpoint therefore needs no states of generators, and a run that was
stopped anywhere goes on as if it had not been, bit for bit.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from tzwc.data import Dataset
from tzwc.errors import InvalidArgumentError
from tzwc.models import Terminator, label_smoothing_cross_entropy, norm_penalty
from tzwc.runtime.compiled_module import CompiledModule
from tzwc.training import distributed
from tzwc.training.augmentation import augment
from tzwc.training.checkpoint import Checkpoint, CheckpointError, optimizer_state, prepare, restore_optimizer
from tzwc.training.ema import MovingAverage
from tzwc.training.evaluation import Evaluation, evaluate
from tzwc.training.interruption import Interrupted, Request, listening
from tzwc.training.logs import Row, has_tensorboard, write_csv, write_tensorboard
from tzwc.training.progress import Progress
from tzwc.training.recipe import Recipe, check_fit
from tzwc.training.run_folder import alone, written

__all__ = ["Trainer"]


class Trainer:
    """Trains ``model`` on ``data`` in place.

    Args:
        model: a :class:`~tzwc.models.Terminator`, or any module from inputs to logits. Its dtype becomes the recipe's.
        data: what to train on and to evaluate with.
        recipe: how.
        folder: where ``last.safetensors``, ``log.csv`` and TensorBoard's files go; ``None`` to write nothing.
        compiled: a module that runs ``model``, sharing its parameters: ``tzwc.compile(model)`` or
            ``torch.compile(model)``; by default the model itself.
        progress: what to show.
        clock: seconds of what the log counts; ``time.process_time`` on a machine that has other things to do.

    Attributes:
        step: steps done.
        history: a row for each finished epoch.
        losses: of every step of this process since it began.

    Raises:
        InvalidArgumentError: model, data and recipe do not fit together.
    """

    def __init__(
        self,
        model: nn.Module,
        data: Dataset,
        recipe: Recipe,
        *,
        folder: Path | None = None,
        compiled: nn.Module | None = None,
        progress: Progress | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.model, self.data, self.recipe, self.folder = model.to(recipe.dtype), data, recipe, folder
        self.compiled = model if compiled is None else compiled
        self.progress = Progress() if progress is None else progress
        self.clock = clock
        check_fit(model, data, recipe)
        self.steps_per_epoch = len(data.train) // recipe.batch
        if folder is not None and distributed.rank() == 0:
            prepare(folder)
        self.optimizer = recipe.make_optimizer(model.parameters())
        self.average = None if recipe.ema is None else MovingAverage(model.parameters(), recipe.ema)
        self.step, self.seconds = 0, 0.0
        self.history: list[Row] = []
        self.losses: list[float] = []
        self._running = {"loss": 0.0, "right": 0.0}
        self._distributed: DistributedDataParallel | None = None  # while it trains

    @property
    def steps(self) -> int:
        """Steps of the whole training."""
        return self.steps_per_epoch * self.recipe.epochs

    def fit(
        self,
        *,
        seconds: float | None = None,
        steps: int | None = None,
        after_epoch: Callable[[Trainer], None] | None = None,
        listen: bool = True,
    ) -> list[Row]:
        """Train to the end, evaluating after every epoch.

        Args:
            seconds: end after this long at the latest; the learning rate falls accordingly, so the result depends on
                the machine.
            steps: end after this many steps in all.
            after_epoch: called with this trainer after every epoch.
            listen: stop behind a step at Ctrl-C and SIGTERM; otherwise they are left to the caller.

        Returns:
            The history.

        Raises:
            Interrupted: Ctrl-C or SIGTERM asked to stop; a checkpoint has been written before.
            CheckpointError: another run writes to the folder.
            InvalidArgumentError: ``seconds`` is not positive, or given with several processes, whose clocks would not
                agree.
        """
        if seconds is not None and (distributed.world() > 1 or not seconds > 0):
            raise InvalidArgumentError(f"seconds = {seconds}: expected more than 0, and None with several processes")
        end = self.steps if steps is None else min(steps, self.steps)
        begin, before = time.perf_counter(), self.step
        heard = listening(self.progress.say) if listen else contextlib.nullcontext(Request())
        tenancy = alone(self.folder if distributed.rank() == 0 else None)
        running = self.progress.running(
            self.step, end, per_epoch=self.steps_per_epoch, epochs=self.recipe.epochs, seconds=seconds
        )
        with self._own_randomness(), tenancy, running, heard as request, contextlib.ExitStack() as stack:
            stack.callback(setattr, self, "_distributed", None)
            self._distributed = stack.enter_context(distributed.synchronised(self.compiled))
            while self.step < end:
                epoch = self.step / self.steps_per_epoch
                if seconds is not None:
                    spent = (time.perf_counter() - begin) / seconds
                    if spent >= 1 and self.step > before:
                        break
                    epoch = max(epoch, spent * self.recipe.epochs)
                stop = self._advance(epoch, request)
                if self.step % self.steps_per_epoch == 0:
                    self._finish_epoch(after_epoch)
                    if distributed.world() == 1:  # several go on to the next step, behind which they stop together
                        stop = request.number
                if stop and self.step < self.steps:
                    self.save()
                    raise Interrupted(f"stopped after step {self.step} of {self.steps}", stop)
            self.save()
        return self.history

    def evaluate(self) -> Evaluation:
        """The held-out split, with the averaged parameters if there are any."""
        with self.average.applied() if self.average else contextlib.nullcontext():
            return evaluate(self.compiled, self.data.test, self.data.normalise, self.recipe.batch)

    def checkpoint(self) -> Checkpoint:
        """Everything that is needed to go on from here."""
        names = [name for name, _ in self.model.named_parameters()]
        return Checkpoint(
            recipe=self.recipe,
            data=self.data.name,
            normalisation=self.data.normalise,
            step=self.step,
            spec=self.model.spec if isinstance(self.model, Terminator) else None,
            parameters=self.model.state_dict(),
            average={} if self.average is None else dict(zip(names, self.average.values, strict=True)),
            optimizer=optimizer_state(self.optimizer),
            running=self._running,
            seconds=self.seconds,
            history=self.history,
            mates=self.data.train.inputs[: self.recipe.batch],
        )

    def save(self) -> None:
        """Write ``last.safetensors`` and ``log.csv``, where there is a folder; one process does."""
        if self.folder is None or distributed.rank() != 0:
            return
        with written(self.folder):
            self.checkpoint().save(self.folder / "last.safetensors")
            write_csv(self.folder / "log.csv", self.history)

    def resume(self, saved: Checkpoint) -> None:
        """Go on where ``saved`` was.

        Raises:
            CheckpointError: it belongs to other data, another recipe or another model; the first difference is named.
        """
        saved.check(self.recipe, self.data, self.model)
        if saved.step > self.steps:
            raise CheckpointError(f"step = {saved.step}: the checkpoint is beyond the end, {self.steps} steps")
        restore_optimizer(self.optimizer, *saved.optimizer)
        self.model.load_state_dict(dict(saved.parameters))
        if self.average is not None:
            for value, (name, _) in zip(self.average.values, self.model.named_parameters(), strict=True):
                value.copy_(saved.average[name])
        self.step, self.seconds = saved.step, saved.seconds
        self.history, self._running = list(saved.history), dict(saved.running)

    def _advance(self, epoch: float, request: Request) -> int:
        """One step, at the learning rate of ``epoch``; the signal that any process was asked to stop with."""
        start = self.clock()
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.lr_at(epoch)
        loss, right = self._gradients(*self._batch())
        if self.recipe.clip is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip)
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.average is not None:
            self.average.update(self.step)
        signal = request.number
        asked: float = signal
        if distributed.world() > 1:  # all stop behind the same step
            asked, loss, right = distributed.mean([signal, loss, right])
        self.step += 1
        self.losses.append(loss)
        self._running["loss"] += loss
        self._running["right"] += right
        self.seconds += self.clock() - start
        self.progress.advance(loss)
        return signal or (2 if asked else 0)

    def _batch(self) -> tuple[Tensor, Tensor]:
        """This process's part of the step's batch, as the model reads it."""
        epoch, step = divmod(self.step, self.steps_per_epoch)
        order = torch.randperm(
            len(self.data.train), generator=torch.Generator().manual_seed(self.recipe.seed_for(1, epoch))
        )
        rows = order[step * self.recipe.batch : (step + 1) * self.recipe.batch].chunk(distributed.world())[
            distributed.rank()
        ]
        parameter = next(self.model.parameters())
        inputs = self.data.normalise(self.data.train.inputs[rows].to(parameter.device), parameter.dtype)
        generator = torch.Generator().manual_seed(self.recipe.seed_for(2, self.step, distributed.rank()))
        inputs = augment(inputs, generator, crop=self.recipe.crop, flip=self.recipe.flip)
        return inputs, self.data.train.labels[rows].to(parameter.device)

    def _gradients(self, inputs: Tensor, labels: Tensor) -> tuple[float, float]:
        """Add up the gradients of all micro-batches; their mean loss, and the fraction that is right."""
        torch.manual_seed(self.recipe.seed_for(3, self.step, distributed.rank()))
        self.compiled.train()
        count = self.recipe.micro_batches
        parts = list(zip(inputs.chunk(count), labels.chunk(count), strict=True))
        accumulating = self.compiled.accumulate if isinstance(self.compiled, CompiledModule) else contextlib.nullcontext
        # The last part synchronises processes, so that it has to stay outside of both blocks where there are several.
        inside = parts if self._distributed is None else parts[:-1]
        results = []
        if count > 1 and inside:
            silent = contextlib.nullcontext() if self._distributed is None else self._distributed.no_sync()
            with silent, accumulating():
                results = [self._backward(*part, last=part is parts[-1]) for part in inside]
        results += [self._backward(*part, last=part is parts[-1]) for part in parts[len(results) :]]
        return sum(loss for loss, _ in results), sum(right for _, right in results)

    def _backward(self, inputs: Tensor, labels: Tensor, *, last: bool) -> tuple[float, float]:
        recipe = self.recipe
        with torch.autocast(inputs.device.type, torch.bfloat16, enabled=recipe.precision == "bfloat16"):
            logits, slow = self._forward(inputs)
        logits = logits.to(recipe.dtype)
        loss = label_smoothing_cross_entropy(logits, labels, recipe.label_smoothing) + recipe.slow_weight * slow
        loss = loss / recipe.micro_batches
        if last and recipe.norm_penalty:
            loss = loss + norm_penalty(self.model, recipe.norm_penalty, recipe.norm_slow_scale)
        loss.backward()  # type: ignore[no-untyped-call]
        right = (logits.argmax(1) == labels).double().mean() / recipe.micro_batches
        return loss.item(), right.item()

    def _forward(self, inputs: Tensor) -> tuple[Tensor, Tensor | float]:
        module = self.compiled if self._distributed is None else self._distributed
        variant = self.recipe.slow_loss
        if variant is None or not isinstance(self.model, Terminator):
            return module(inputs), 0.0
        logits, slow = module(inputs, slow_loss=variant)
        return logits, slow

    def _finish_epoch(self, after_epoch: Callable[[Trainer], None] | None) -> None:
        self.progress.evaluating()
        found = self.evaluate()
        count = self.steps_per_epoch
        self.history.append(
            {
                "epoch": self.step // count,
                "step": self.step,
                "lr": self.optimizer.param_groups[0]["lr"],
                "loss": self._running["loss"] / count,
                "accuracy": self._running["right"] / count,
                "test_loss": found.loss,
                "test_accuracy": found.accuracy,
                "seconds": self.seconds,
            }
        )
        self._running = {"loss": 0.0, "right": 0.0}
        self.save()
        if self.folder is not None and distributed.rank() == 0 and has_tensorboard():
            write_tensorboard(self.folder / "tensorboard", self.history[-1])
        self.progress.epoch(self.history[-1])
        if after_epoch is not None:
            after_epoch(self)

    def _own_randomness(self) -> Any:
        """A context that leaves the caller's global generators as they are."""
        device = next(self.model.parameters()).device
        return torch.random.fork_rng([device] if device.type == "cuda" else [])
