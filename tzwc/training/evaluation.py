"""What a model answers for a whole split, and how many of the answers are right."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tzwc.data import Normalisation, Split
from tzwc.errors import InvalidArgumentError

__all__ = ["Evaluation", "answers", "evaluate"]


@dataclass(frozen=True)
class Evaluation:
    """How a model does on a split.

    Attributes:
        loss: mean cross entropy, without label smoothing.
        accuracy: fraction that is right.
        samples: how many there are.
    """

    loss: float
    accuracy: float
    samples: int


def answers(model: Callable[[Tensor], Tensor], split: Split, normalise: Normalisation, batch: int = 64) -> Tensor:
    """The model's logits for all inputs of ``split`` in their order, float64 ``(n classes)``, without gradients.

    All batches are of one size, since these models standardise over their batch: the last one is filled up with the
    first samples, whose second answers are dropped.

    Args:
        model: in evaluation mode; inputs take dtype and device of its parameters (float32 for a plain function).
        split: what to answer.
        normalise: what the inputs go through before.
        batch: samples at a time; at most all of them.

    Raises:
        InvalidArgumentError: there are no samples.
    """
    if not len(split):
        raise InvalidArgumentError("split: it has no samples; expected at least one")
    parameter = next(model.parameters(), None) if isinstance(model, nn.Module) else None
    dtype = torch.float32 if parameter is None else parameter.dtype
    device = torch.device("cpu") if parameter is None else parameter.device
    count, batch = len(split), min(batch, len(split))
    found = []
    with torch.no_grad():
        for start in range(0, count, batch):
            rows = torch.arange(start, start + batch) % count
            found.append(model(normalise(split.inputs[rows].to(device), dtype)).double().cpu())
    return torch.cat(found)[:count]


def evaluate(model: nn.Module, split: Split, normalise: Normalisation, batch: int = 64) -> Evaluation:
    """Answer all of ``split`` in evaluation mode and compare with its labels; the arguments of :func:`answers`."""
    training = model.training
    model.eval()
    try:
        logits = answers(model, split, normalise, batch)
    finally:
        model.train(training)
    loss = F.cross_entropy(logits, split.labels).item()
    accuracy = (logits.argmax(1) == split.labels).double().mean().item()
    return Evaluation(loss, accuracy, len(split))
