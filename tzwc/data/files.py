"""Find and read files of known formats; whatever is wrong is said with the file, what was expected and what to do."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor

from tzwc.errors import TzwcError
from tzwc.util.paths import LARGEST, is_file, is_folder, read_whole, why_not

__all__ = ["DataError", "as_bytes", "check_labels", "find", "read", "wrong"]


class DataError(TzwcError):
    """Data are missing, truncated or of another kind; the message names the file, what was expected and a remedy."""


def wrong(path: Path, found: str, expected: str, remedy: str = "fetch it again") -> DataError:
    """The error for ``path`` holding ``found``."""
    return DataError(f"{path}: found {found}, expected {expected}; {remedy}")


def find(directory: Path, folders: Iterable[str], names: Iterable[str], what: str) -> Path:
    """The first existing file of ``names`` in ``directory`` or one of its ``folders``.

    Raises:
        DataError: there is none.
    """
    if not is_folder(directory):
        raise DataError(f"--data {directory}: no such folder; give the folder that holds {what}")
    names = list(names)
    places = [directory, *(directory / folder for folder in folders)]
    for place in places:
        for name in names:
            if is_file(place / name):
                return place / name
    places_text = ", ".join(str(place) for place in places)
    raise DataError(f"{names[0]}: not found in {places_text}; --data must name the folder that holds {what}")


def read(path: Path) -> bytes:
    """The content of a file, unpacked if it ends in ``.gz``.

    Raises:
        DataError: it cannot be read or unpacked.
    """
    try:
        content = read_whole(path)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({why_not(error)}); check its permissions") from error
    if path.suffix != ".gz":
        return content
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as file:
            unpacked = file.read(LARGEST + 1)  # some small files unpack to terabytes
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise wrong(path, f"{len(content)} bytes that do not unpack ({error})", "a whole gzip file") from error
    if len(unpacked) > LARGEST:
        raise wrong(path, f"{len(content):,} bytes that unpack to more than {LARGEST:,}", "a file of a data set")
    return unpacked


def as_bytes(content: bytes) -> Tensor:
    """``content`` as uint8 ``(n)``, in memory of its own."""
    if not content:  # which ``frombuffer`` refuses
        return torch.empty(0, dtype=torch.uint8)
    return torch.frombuffer(bytearray(content), dtype=torch.uint8)


def check_labels(path: Path, labels: Tensor, classes: int, first: int = 0) -> Tensor:
    """Labels that start at ``first`` as int64 that start at 0.

    Raises:
        DataError: one of them is no class.
    """
    low, high = int(labels.min()), int(labels.max())
    if low < first or high >= first + classes:
        raise wrong(path, f"labels from {low} to {high}", f"labels from {first} to {first + classes - 1}")
    return labels.to(torch.int64) - first
