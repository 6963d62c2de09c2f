"""Models that are particular about what goes in and what comes out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.idioms.idiom import UNTOUCHED, WHOLE, Arguments, Manner, inputs, seeded

__all__ = ["MANNERS"]


def _randn(*sizes: int) -> Tensor:
    return torch.randn(*sizes, dtype=torch.float64)


class FlagArgument(nn.Module):
    """An argument says whether auxiliary results are wanted."""

    def __init__(self, width: int = 5) -> None:
        super().__init__()
        self.fc = nn.Linear(width, width)
        self.auxiliary = nn.Linear(width, 2)

    def forward(self, x: Tensor, train_mode: bool = False, scale: float = 1.0) -> Any:
        hidden = F.relu(self.fc(x)) * scale
        if train_mode:
            return hidden, self.auxiliary(hidden)
        return hidden


class Dictionaries(nn.Module):
    """A dictionary goes in and another one comes out."""

    def __init__(self, width: int = 5) -> None:
        super().__init__()
        self.image = nn.Linear(width, 4)
        self.text = nn.Linear(width, 4)

    def forward(self, batch: dict[str, Any]) -> dict[str, Any]:
        image = F.normalize(self.image(batch["image"]), dim=-1)
        text = F.normalize(self.text(batch["text"]["tokens"]), dim=-1)
        return {"logits": image @ text.t(), "embeddings": {"image": image, "text": text}, "scale": batch["scale"]}


class Tuples(nn.Module):
    """A state of nested tuples goes in and comes out."""

    def __init__(self, width: int = 5) -> None:
        super().__init__()
        self.cell = nn.Linear(2 * width, 2 * width)

    def forward(self, x: Tensor, state: tuple[Tensor, list[Tensor]]) -> tuple[Tensor, tuple[Tensor, list[Tensor]]]:
        hidden, (memory,) = state
        update, gate = self.cell(torch.cat([x, hidden], dim=-1)).chunk(2, dim=-1)
        memory = torch.sigmoid(gate) * memory + torch.tanh(update)
        return memory + x, (torch.tanh(memory), [memory])


@dataclass
class Prediction:
    """What the model below returns."""

    logits: Tensor
    hidden: Tensor
    loss: Tensor | None = None


class DataclassOut(nn.Module):
    """Returns an object of a dataclass."""

    def __init__(self, width: int = 5) -> None:
        super().__init__()
        self.body = nn.Linear(width, width)
        self.head = nn.Linear(width, 3)

    def forward(self, x: Tensor) -> Prediction:
        hidden = torch.tanh(self.body(x))
        return Prediction(logits=self.head(hidden), hidden=hidden)


class Moments(NamedTuple):
    """What the model below returns."""

    mean: Tensor
    log_variance: Tensor


class NamedTupleOut(nn.Module):
    """Returns a named tuple."""

    def __init__(self, width: int = 5) -> None:
        super().__init__()
        self.fc = nn.Linear(width, 6)

    def forward(self, x: Tensor) -> Moments:
        mean, log_variance = self.fc(x).chunk(2, dim=-1)
        return Moments(mean, log_variance.clamp(-4, 4))


class Squeezed(nn.Module):
    """``squeeze()`` drops every axis of size one, a batch of one too."""

    def __init__(self, width: int = 5) -> None:
        super().__init__()
        self.fc = nn.Linear(width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.fc(x)).squeeze()


class BranchOnShape(nn.Module):
    """Treats short batches, long batches and single samples differently."""

    def __init__(self, width: int = 5) -> None:
        super().__init__()
        self.fc = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Any:
        hidden: Tensor = self.fc(x)
        if x.shape[0] == 1:
            return hidden
        if x.shape[0] > 4:
            return hidden - hidden.mean(0)
        return hidden / hidden.norm(dim=0)


class LengthOfBatch(nn.Module):
    """Divides by ``len(x)`` and loops over its samples' axis nowhere."""

    def __init__(self, width: int = 5) -> None:
        super().__init__()
        self.fc = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Any:
        return self.fc(x).sum(0) / len(x) + torch.ones(len(x), 1, dtype=x.dtype).mean()


class KeywordsOnly(nn.Module):
    """Takes everything by keyword, some of it optional."""

    def __init__(self, width: int = 5) -> None:
        super().__init__()
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)

    def forward(self, *, query: Tensor, key: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        key = query if key is None else key
        scores = self.query(query) @ self.key(key).transpose(-1, -2)
        if mask is not None:
            scores = scores.masked_fill(mask, float("-inf"))
        return torch.softmax(scores, dim=-1)


class NoneAndNumbers(nn.Module):
    """Returns ``None``, numbers and a string beside its result, one of the numbers being the batch size."""

    def __init__(self, width: int = 5) -> None:
        super().__init__()
        self.fc = nn.Linear(width, width)

    def forward(self, x: Tensor) -> tuple[Tensor, None, int, float, str]:
        return self.fc(x), None, x.shape[0], 0.5, "logits"


class InPlaceArgument(nn.Module):
    """Overwrites its argument."""

    def __init__(self, width: int = 5) -> None:
        super().__init__()
        self.fc = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Any:
        x.clamp_(min=0)
        x *= 2
        return self.fc(x) + x


class Asserting(nn.Module):
    """Asserts what it was given."""

    def __init__(self, width: int = 5) -> None:
        super().__init__()
        self.width = width
        self.fc = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        assert x.ndim == 3, f"expected (batch, length, width), got {tuple(x.shape)}"
        batch, length, width = x.shape
        assert width == self.width
        assert x.is_floating_point()
        out: Tensor = self.fc(x)
        assert out.shape == (batch, length, self.width), out.shape
        return out


def _flags(batch: int) -> Arguments:
    return (_randn(batch, 5),), {"train_mode": True, "scale": 0.5}


def _dictionaries(batch: int) -> Arguments:
    return ({"image": _randn(batch, 5), "text": {"tokens": _randn(batch, 5)}, "scale": 2.0},), {}


def _tuples(batch: int) -> Arguments:
    return (_randn(batch, 5), (_randn(batch, 5), [_randn(batch, 5)])), {}


def _keywords(batch: int) -> Arguments:
    mask = torch.ones(4, 4, dtype=torch.bool).triu(1)
    return (), {"query": _randn(batch, 4, 5), "mask": mask}


MANNERS = (
    Manner("flag-argument", "takes train_mode=True and a scale as arguments", seeded(FlagArgument), _flags, WHOLE),
    Manner("dictionaries", "takes and returns nested dictionaries", seeded(Dictionaries), _dictionaries, WHOLE),
    Manner("tuples", "takes and returns nested tuples and lists", seeded(Tuples), _tuples, WHOLE),
    Manner("dataclass-out", "returns an object of a dataclass", seeded(DataclassOut), inputs(5), WHOLE),
    Manner("namedtuple-out", "returns a named tuple", seeded(NamedTupleOut), inputs(5), WHOLE),
    Manner("squeeze", "calls squeeze(), which drops a batch of one", seeded(Squeezed), inputs(5), WHOLE),
    Manner("branch-on-shape", "branches on the batch size", seeded(BranchOnShape), inputs(5), WHOLE),
    Manner("length-of-batch", "computes with len(x)", seeded(LengthOfBatch), inputs(5), WHOLE),
    Manner("keywords-only", "takes keyword-only and optional arguments", seeded(KeywordsOnly), _keywords, WHOLE),
    Manner(
        "none-and-numbers",
        "returns None, Python numbers and a string beside its result",
        seeded(NoneAndNumbers),
        inputs(5),
        WHOLE,
    ),
    Manner(
        "in-place-argument",
        "overwrites its argument",
        seeded(InPlaceArgument),
        inputs(5),
        UNTOUCHED,  # what the caller sees of the writing is nothing that a functional graph has a place for
        trains=False,  # eager refuses to overwrite a leaf that needs gradients
    ),
    Manner("asserts", "asserts shapes and dtypes of what goes in and out", seeded(Asserting), inputs(4, 5), WHOLE),
)
