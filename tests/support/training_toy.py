"""A small task that all tests of training share."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch

import tzwc
from tzwc.data import Dataset, Split
from tzwc.models import Terminator, terminator_spec
from tzwc.training import Recipe, Trainer

SPEC = terminator_spec(
    "digits",
    sizes=(4, 4),
    factors=(12, 1),
    classes=3,
    global_net={"hidden": 4, "layers": 1},
    local_net={"hidden": 4, "layers": 1},
    hci_net={"hidden": 4, "layers": 1},
    interaction_channel_net={"hidden": 4, "layers": 1},
    interaction_spatial_net={"hidden": 4, "layers": 1},
    local=terminator_spec("digits").local[:1],
    concat=("out", "l1", "fast", "glu", "hyp"),
    dropout=0.1,
)
RECIPE = Recipe(epochs=3, batch=8, lr=1e-2, warm_up=0.5, crop=1, flip=True, ema=0.9, precision="float64")


def make_data(samples: int = 26) -> Dataset:
    """Three classes of images that differ in their mean."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(samples) % 3
    inputs = torch.rand(samples, 1, 4, 4, generator=generator) + labels.view(-1, 1, 1, 1)
    return Dataset("toy", Split(inputs, labels), Split(inputs[:10], labels[:10]), 3)


def make_model(seed: int = 0, **changes: Any) -> Terminator:
    """The small network, in float64."""
    torch.manual_seed(seed)
    return Terminator(dataclasses.replace(SPEC, **changes)).double()


def trainer(recipe: Recipe = RECIPE, folder: Path | None = None, **compiled: Any) -> Trainer:
    model = make_model()
    return Trainer(
        model, make_data(), recipe, folder=folder, compiled=tzwc.compile(model, **compiled) if compiled else None
    )


def assert_same(first: Trainer, second: Trainer) -> None:
    for a, b in zip(first.model.parameters(), second.model.parameters(), strict=True):
        assert torch.equal(a, b)
    without_time = [[{k: v for k, v in row.items() if k != "seconds"} for row in t.history] for t in (first, second)]
    assert without_time[0] == without_time[1]
