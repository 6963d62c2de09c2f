"""What happened, epoch by epoch: a CSV file, and TensorBoard's where its package is installed."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["Row", "has_tensorboard", "write_csv", "write_tensorboard"]

Row = dict[str, float]
"""One epoch, by the names of :data:`COLUMNS`."""

COLUMNS = ("epoch", "step", "lr", "loss", "accuracy", "test_loss", "test_accuracy", "seconds")


def write_csv(path: Path, rows: Sequence[Mapping[str, float]]) -> None:
    """Write all rows, whole or not at all; a resumed run thus repeats none and keeps none that it did not reach."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]) if rows else COLUMNS)
            writer.writeheader()
            writer.writerows(rows)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)  # a full disk, or a second Ctrl-C


def has_tensorboard() -> bool:
    """Whether the package ``tensorboard`` is installed."""
    from importlib.util import find_spec

    return find_spec("tensorboard") is not None


def write_tensorboard(folder: Path, row: Mapping[str, float]) -> None:
    """Add one row to TensorBoard's files in ``folder``; needs the package."""
    from torch.utils.tensorboard import SummaryWriter

    writer: Any = SummaryWriter(str(folder))
    for name, value in row.items():
        if name not in ("epoch", "step"):
            writer.add_scalar(name, value, int(row["step"]))
    writer.close()
