"""The 1,797 handwritten digits that scikit-learn ships, and a training loop for them."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from tzwc.errors import TzwcError
from tzwc.models import Kar3, Terminator, label_smoothing_cross_entropy
from tzwc.terminal import errors

__all__ = ["BATCH", "Digits", "accuracy", "load", "logits", "train"]

BATCH = 64
"""Images at a time, in training and in evaluation: the model standardises over its batch."""

_HELD_OUT = 6 * BATCH
_LEARNING_RATE = 1e-3
_WARM_UP = 0.1


@dataclass(frozen=True)
class Digits:
    """The images, split at random but always alike.

    Attributes:
        images: ``(1797 1 8 8)``, float32 in ``[0, 1]``.
        labels: ``(1797)``, the digit.
        train, test: which of them to train on, and which are held out.
    """

    images: Tensor
    labels: Tensor
    train: Tensor
    test: Tensor


def load() -> Digits:
    """The images that come with scikit-learn.

    Raises:
        TzwcError: scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise TzwcError("the demo's images come with scikit-learn: pip install 'tzwc[demo]'") from error
    bunch = load_digits()
    images = torch.tensor(bunch.images, dtype=torch.float32).unsqueeze(1) / 16
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    return Digits(images, torch.tensor(bunch.target), order[_HELD_OUT:], order[:_HELD_OUT])


def logits(model: Callable[[Tensor], Tensor], data: Digits) -> Tensor:
    """The model's float64 answer for the held-out images, batch by batch, ``(images classes)``.

    A float64 module is given float64 images.
    """
    dtype = next(model.parameters()).dtype if isinstance(model, torch.nn.Module) else torch.float32
    with torch.no_grad():
        return torch.cat([model(data.images[part].to(dtype)).double() for part in _rows(data.test)])


def accuracy(answers: Tensor, data: Digits) -> float:
    """Fraction of the held-out images that ``answers``, as of :func:`logits`, get right."""
    return (answers.argmax(1) == data.labels[data.test]).double().mean().item()


def train(
    model: Terminator, data: Digits, epochs: int, seconds: float | None = None, steps: int | None = None
) -> float:
    """Train in place with Kar3, label smoothing and the slow neural loss, under a progress bar.

    Args:
        model: of the preset ``digits``.
        data: the images.
        epochs: passes over the training images; the learning rate warms up and then falls to zero along a cosine.
        seconds: end after this long at the latest, the learning rate falling accordingly.
        steps: end after this many steps at the latest.

    Returns:
        Seconds taken.
    """
    optimizer = Kar3(model.parameters(), lr=_LEARNING_RATE)
    total = len(data.train) // BATCH * epochs
    total = total if steps is None else min(total, steps)
    columns = (TextColumn("training"), BarColumn(), TextColumn("{task.fields[loss]}"), TimeRemainingColumn())
    console = errors()
    if not console.is_terminal:
        console.print(f"training, {total} steps …")
    start = time.perf_counter()
    model.train()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task("", total=1.0, loss="")
        for step, batch in enumerate(itertools.islice(_batches(data.train), total)):
            spent = 0.0 if seconds is None else (time.perf_counter() - start) / seconds
            done = max(step / total, spent)
            if done >= 1:
                break
            optimizer.param_groups[0]["lr"] = _LEARNING_RATE * _schedule(done)
            loss = _step(model, optimizer, data.images[batch], data.labels[batch])
            progress.update(bar, completed=max((step + 1) / total, spent), loss=f"loss {loss:.3f}")
    return time.perf_counter() - start


def _batches(indices: Tensor) -> Iterator[Tensor]:
    """Batches without end; after each pass in another order."""
    generator = torch.Generator().manual_seed(0)
    while True:
        yield from _rows(indices[torch.randperm(len(indices), generator=generator)])


def _rows(indices: Tensor) -> Tensor:
    """Whole batches, ``(batches BATCH)``."""
    return indices[: len(indices) // BATCH * BATCH].view(-1, BATCH)


def _schedule(done: float) -> float:
    return min(1.0, (done + 0.01) / _WARM_UP) * (1 + math.cos(math.pi * done)) / 2


def _step(model: Terminator, optimizer: Kar3, images: Tensor, labels: Tensor) -> float:
    answers, slow_loss = model(images, slow_loss="channel_sum")
    loss: Tensor = label_smoothing_cross_entropy(answers, labels) + slow_loss
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    return loss.item()
