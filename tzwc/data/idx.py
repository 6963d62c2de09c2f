"""MNIST and its kin in the IDX format: a header of big-endian numbers, then bytes.

Header: two zero bytes, the element type (8: unsigned byte), the number of axes, and one 32-bit size an axis.
"""

from __future__ import annotations

import math
import struct
from pathlib import Path

from torch import Tensor

from tzwc.data.dataset import Dataset, Normalisation, Split
from tzwc.data.files import as_bytes, check_labels, find, read, wrong

__all__ = ["mnist", "read_idx"]

_UNSIGNED_BYTE = 8
_WHAT = "train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte (or .gz)"


def read_idx(path: Path, axes: int) -> Tensor:
    """The unsigned bytes of an IDX file with so many axes, gzipped or not.

    Raises:
        DataError: the file is not of that kind, or not whole.
    """
    content = read(path)
    expected = f"an IDX file of unsigned bytes with {axes} axes (it begins 00 00 08 {axes:02x})"
    if len(content) < 4:
        raise wrong(path, f"{len(content)} bytes", expected)
    zero, kind, found_axes = struct.unpack(">HBB", content[:4])
    if (zero, kind, found_axes) != (0, _UNSIGNED_BYTE, axes):
        remedy = "check that images and labels have not changed names, and that the file is no web page"
        raise wrong(path, f"a file that begins {content[:4].hex(' ')}", expected, remedy)
    start = 4 + 4 * axes
    if len(content) < start:
        raise wrong(path, f"{len(content)} bytes", f"a header of {start}")
    sizes = struct.unpack(f">{axes}I", content[4:start])
    if len(content) - start != math.prod(sizes):
        announced = "×".join(map(str, sizes))
        raise wrong(
            path, f"{len(content) - start:,} bytes of data", f"{math.prod(sizes):,}, as its header says ({announced})"
        )
    return as_bytes(content[start:]).view(sizes)


def mnist(directory: Path) -> Dataset:
    """MNIST from its four files, as images ``(n 1 28 28)``.

    Raises:
        DataError: a file is missing or wrong, or the files do not belong together.
    """
    train, test = (_split(directory, prefix) for prefix in ("train", "t10k"))
    return Dataset("mnist", train, test, 10, Normalisation.of(train.inputs))


def _split(directory: Path, prefix: str) -> Split:
    images_path = _find(directory, f"{prefix}-images", "idx3-ubyte")
    images = read_idx(images_path, 3)
    if images.shape[1:] != (28, 28) or not len(images):
        raise wrong(images_path, "images of " + "×".join(map(str, images.shape)), "at least one image of 28×28")
    labels_path = _find(directory, f"{prefix}-labels", "idx1-ubyte")
    labels = read_idx(labels_path, 1)
    if len(labels) != len(images):
        raise wrong(labels_path, f"{len(labels)} labels", f"{len(images)}, one for each image of {images_path.name}")
    return Split(images.unsqueeze(1), check_labels(labels_path, labels, 10))


def _find(directory: Path, stem: str, kind: str) -> Path:
    names = [f"{stem}{dot}{kind}{end}" for dot in "-." for end in ("", ".gz")]
    return find(directory, ("MNIST/raw", "mnist", "raw"), names, _WHAT)
