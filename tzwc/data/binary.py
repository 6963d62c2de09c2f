"""CIFAR-10, CIFAR-100 and STL-10 in their binary versions: records of bytes without any header."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor

from tzwc.data.dataset import Dataset, Normalisation, Split
from tzwc.data.files import DataError, as_bytes, check_labels, find, read, wrong
from tzwc.util.paths import is_file

__all__ = ["cifar10", "cifar100", "stl10"]

_PIXELS = (3, 32, 32)
_STL_PIXELS = (3, 96, 96)


def cifar10(directory: Path, *, partial: bool = False) -> Dataset:
    """CIFAR-10 from ``data_batch_1.bin`` … ``data_batch_5.bin`` and ``test_batch.bin``, as images ``(n 3 32 32)``.

    Args:
        directory: the folder that holds them, or the one above it.
        partial: accept files of fewer records than the whole data set has.

    Raises:
        DataError: a file is missing or wrong, or it is the version made of pickles.
    """
    what, folder = "data_batch_1.bin … data_batch_5.bin and test_batch.bin", "cifar-10-batches-bin"
    _refuse_pickles(directory, "CIFAR-10", "data_batch_1", ("cifar-10-batches-py", folder), what)
    batches = [
        _records(find(directory, (folder,), (f"data_batch_{n}.bin",), what), 1, 10, 10_000, partial)
        for n in range(1, 6)
    ]
    train = Split(torch.cat([b.inputs for b in batches]), torch.cat([b.labels for b in batches]))
    test = _records(find(directory, (folder,), ("test_batch.bin",), what), 1, 10, 10_000, partial)
    return Dataset("cifar10", train, test, 10, Normalisation.of(train.inputs))


def cifar100(directory: Path, *, partial: bool = False) -> Dataset:
    """CIFAR-100 with its fine labels from ``train.bin`` and ``test.bin``; see :func:`cifar10`."""
    what, folder = "train.bin and test.bin", "cifar-100-binary"
    _refuse_pickles(directory, "CIFAR-100", "train", ("cifar-100-python", folder), what)
    train, test = (
        _records(find(directory, (folder,), (name,), what), 2, 100, count, partial)
        for name, count in (("train.bin", 50_000), ("test.bin", 10_000))
    )
    return Dataset("cifar100", train, test, 100, Normalisation.of(train.inputs))


def stl10(directory: Path, *, partial: bool = False) -> Dataset:
    """STL-10's labelled images ``(n 3 96 96)`` from ``train_X.bin``, ``train_y.bin``, ``test_X.bin``, ``test_y.bin``.

    Args:
        directory, partial: see :func:`cifar10`.

    Raises:
        DataError: a file is missing or wrong, or the files do not belong together.
    """
    train, test = (_stl_split(directory, name, count, partial) for name, count in (("train", 5000), ("test", 8000)))
    return Dataset("stl10", train, test, 10, Normalisation.of(train.inputs))


def _stl_split(directory: Path, name: str, count: int, partial: bool) -> Split:
    what, folder = "train_X.bin, train_y.bin, test_X.bin and test_y.bin", "stl10_binary"
    images_path, labels_path = (find(directory, (folder,), (f"{name}_{part}.bin",), what) for part in "Xy")
    images = _rows(images_path, math.prod(_STL_PIXELS), count, partial)
    labels = _rows(labels_path, 1, count, partial).flatten()
    if len(labels) != len(images):
        raise wrong(labels_path, f"{len(labels)} labels", f"{len(images)}, one for each image of {images_path.name}")
    # Stored column by column.
    return Split(
        images.view(-1, *_STL_PIXELS).transpose(2, 3).contiguous(), check_labels(labels_path, labels, 10, first=1)
    )


def _records(path: Path, label_bytes: int, classes: int, count: int, partial: bool) -> Split:
    """Records of labels, the last of which counts, and an image."""
    rows = _rows(path, label_bytes + math.prod(_PIXELS), count, partial)
    labels = check_labels(path, rows[:, label_bytes - 1], classes)
    return Split(rows[:, label_bytes:].reshape(-1, *_PIXELS), labels)


def _rows(path: Path, size: int, count: int, partial: bool) -> Tensor:
    content = read(path)
    records, rest = divmod(len(content), size)
    found = f"{len(content):,} bytes"
    if rest or not records:
        raise wrong(path, found, f"a multiple of {size:,} bytes, the size of one record (whole: {count * size:,})")
    if records != count and not partial:
        remedy = "fetch it again, or allow it with --partial (partial=True) if it is a part of the data on purpose"
        raise wrong(path, f"{found} ({records:,} records)", f"{count * size:,} ({count:,} records)", remedy)
    return as_bytes(content).view(-1, size)


def _refuse_pickles(directory: Path, title: str, name: str, folders: tuple[str, str], what: str) -> None:
    """Say so when ``directory`` holds the version that would have to be unpickled, and the other one is not there.

    Args:
        directory: the folder that holds the files, or the one above it.
        title: of the data set.
        name: of a file of pickles.
        folders: where their archive puts them, and where that of the binary version does.
        what: the files of the binary version.
    """
    first = what.split(" ")[0]
    if is_file(directory / first) or is_file(directory / folders[1] / first):
        return
    for path in (directory / folders[0] / name, directory / name):
        if is_file(path):
            raise DataError(
                f"{path}: this is the python version of {title}, a pickle; reading a pickle runs whatever code it "
                f"holds, so it is refused. Get the 'binary version (suitable for C programs)', and give the folder "
                f"that holds {what}"
            )
