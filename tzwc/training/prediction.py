"""Classes of single files: images, or arrays of numpy."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from tzwc.data import PERMUTED, DataError, permutation
from tzwc.models import TerminatorSpec
from tzwc.training.checkpoint import Checkpoint
from tzwc.util.paths import as_path, is_file, read_whole

__all__ = ["Prediction", "predict", "read_input"]


@dataclass(frozen=True)
class Prediction:
    """What the model says about one file.

    Attributes:
        path: of the file.
        label: the likeliest class, counted from 0.
        probability: of that class, by the model.
    """

    path: Path
    label: int
    probability: float


def predict(saved: Checkpoint, paths: list[Path]) -> list[Prediction]:
    """Classify files, each by itself.

    The model standardises over its batch, so every file is answered in the company of the training samples that the
    checkpoint holds: what is said of one file does not depend on the others.

    Args:
        saved: a Terminator's checkpoint.
        paths: files that :func:`read_input` reads.

    Raises:
        CheckpointError: the checkpoint holds no Terminator.
        DataError: a file cannot be read, has another shape, or holds values that the data set could not hold.
    """
    model = saved.model().eval()
    company = saved.normalisation(saved.mates[1:], saved.recipe.dtype)
    # Bytes, and numbers that all lie between 0 and 1, are pixels.
    pixels = saved.mates.dtype == torch.uint8 or bool((saved.mates.amin() >= 0) & (saved.mates.amax() <= 1))
    found = []
    for path in paths:
        values = read_input(path, model.spec, permuted=saved.data in PERMUTED)
        if values.is_floating_point():
            _check_values(path, values, pixels=pixels)
        values = saved.normalisation(values.unsqueeze(0), saved.recipe.dtype)
        with torch.no_grad():
            logits = model(torch.cat([values, company]))[0]
        probability, label = logits.softmax(0).max(0)
        found.append(Prediction(path, int(label), probability.item()))
    return found


def read_input(path: Path, spec: TerminatorSpec, *, permuted: bool = False) -> Tensor:
    """One sample ``(channels *sizes)`` as the data set holds it: uint8, or float32.

    An image is converted to grey or RGB, as the model has one or three channels; its pixels are read row by row where
    the model takes sequences, and brought into the order of the data set where that is ``permuted``. A ``.npy`` file
    holds the array itself, with or without the axis of a single channel; a sequence in it is in the data set's order.

    Raises:
        DataError: the file cannot be read, or it has another shape; nothing is resized silently.
    """
    expected = (spec.in_channels, *spec.sizes)
    path = as_path(path)
    if not is_file(path):
        raise DataError(f"{path}: no such file; give images or .npy files")
    if path.suffix == ".npy":
        values = _array(path)
        if tuple(values.shape) == expected[1:] and spec.in_channels == 1:
            values = values.unsqueeze(0)
    else:
        values = _image(path, spec)
        if len(spec.sizes) == 1:
            values = values.flatten(1)
            values = values[:, permutation(values.shape[1])] if permuted else values
    if tuple(values.shape) != expected:
        raise DataError(f"{path}: found shape {tuple(values.shape)}, expected {expected}; resize it beforehand")
    return values


def _check_values(path: Path, values: Tensor, *, pixels: bool) -> None:
    if not values.isfinite().all():
        raise DataError(f"{path}: holds NaN or infinity; expected finite numbers")
    low, high = values.min().item(), values.max().item()
    if pixels and (low < 0 or high > 1):
        raise DataError(f"{path}: found numbers from {low:g} to {high:g}, expected bytes (uint8), or 0 to 1")


def _array(path: Path) -> Tensor:
    import numpy

    try:
        # Not numpy.load, which opens archives and pickles under this name as well.
        values = numpy.lib.format.read_array(io.BytesIO(read_whole(path)), allow_pickle=False)
    except Exception as error:  # the header is Python text: of damaged ones its parser says whatever comes up
        raise DataError(
            f"{path}: not a plain .npy array ({error}); archives, and arrays of objects, are refused"
        ) from error
    if values.dtype == numpy.uint8:
        return torch.from_numpy(values.copy())
    if values.dtype.kind not in "fiu":
        raise DataError(f"{path}: found dtype {values.dtype}, expected bytes, or numbers between 0 and 1")
    with numpy.errstate(over="ignore", invalid="ignore"):
        return torch.from_numpy(values.astype(numpy.float32))


def _image(path: Path, spec: TerminatorSpec) -> Tensor:
    channels = spec.in_channels
    try:
        import numpy
        from PIL import Image
    except ImportError as error:
        raise DataError(
            f"{path}: images are read with Pillow: pip install 'tzwc[train]', or give a .npy file"
        ) from error
    if channels not in (1, 3):
        raise DataError(f"{path}: an image has 1 or 3 channels, the model {channels}; give a .npy file")
    try:
        with Image.open(io.BytesIO(read_whole(path))) as image:
            if image.width * image.height != math.prod(spec.sizes):  # before it is unpacked: it may be huge
                found = f"{image.height}×{image.width} pixels"
                raise DataError(f"{path}: found {found}, expected {_sizes(spec)}; resize it beforehand")
            if image.mode.startswith(("I", "F")):
                remedy = "convert it, or give a .npy file of numbers between 0 and 1"
                raise DataError(f"{path}: pixels of mode {image.mode}, expected 8 bits a channel; {remedy}")
            if image.has_transparency_data and image.convert("RGBA").getchannel("A").tobytes().strip(b"\xff"):
                raise DataError(f"{path}: has transparent pixels, so its colours are not known; flatten it beforehand")
            pixels = numpy.asarray(image.convert("L" if channels == 1 else "RGB"))
    except DataError:
        raise
    except Exception as error:  # its decoders raise what they meet: OSError, ValueError, SyntaxError, struct.error …
        raise DataError(f"{path}: not an image that Pillow reads ({error}); give an image or a .npy file") from error
    values = torch.from_numpy(pixels.copy())
    return values.unsqueeze(0) if channels == 1 else values.permute(2, 0, 1).contiguous()


def _sizes(spec: TerminatorSpec) -> str:
    if len(spec.sizes) == 2:
        return "{}×{}".format(*spec.sizes)
    return f"{spec.sizes[0]} in all"
