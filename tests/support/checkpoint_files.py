"""A checkpoint as it should be."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path

from tests.support.training_toy import RECIPE, make_data, make_model
from tzwc.training import Trainer


def trainer() -> Trainer:
    return Trainer(make_model(), make_data(), dataclasses.replace(RECIPE, epochs=1, flip=False, crop=0))


@functools.cache
def valid() -> bytes:
    """A checkpoint of one step."""
    from tempfile import TemporaryDirectory

    trained = trainer()
    trained.fit(steps=1)
    with TemporaryDirectory() as folder:
        trained.checkpoint().save(Path(folder) / "x")
        return (Path(folder) / "x").read_bytes()
