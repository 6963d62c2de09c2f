"""Single files: images of every mode and size, arrays of every kind, and checkpoints that say what is not so."""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from PIL import Image

from tests.support.training_toy import RECIPE, make_data, make_model
from tzwc.data import DataError, permutation
from tzwc.models import TerminatorSpec, terminator_spec
from tzwc.training import Checkpoint, CheckpointError, Trainer
from tzwc.training.prediction import predict, read_input

PIXELS = torch.randint(256, (4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)).numpy()
GREY = terminator_spec("digits", sizes=(4, 4))
SEQUENCE = terminator_spec("smnist", sizes=(16,))


@pytest.mark.parametrize("mode", ["L", "P", "LA", "RGB", "RGBA"])
def test_grey_images_of_every_mode_are_the_same(mode: str, tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    Image.fromarray(PIXELS).convert(mode).save(path)
    assert torch.equal(read_input(path, GREY), torch.from_numpy(PIXELS)[None])


def test_colours_and_sequences(tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    colours = numpy.stack([PIXELS, PIXELS[::-1], PIXELS.T], -1)
    Image.fromarray(colours).save(path)
    found = read_input(path, dataclasses.replace(GREY, in_channels=3))
    assert torch.equal(found, torch.from_numpy(colours.copy()).permute(2, 0, 1))
    Image.fromarray(PIXELS).save(path)
    rows = read_input(path, SEQUENCE)
    assert torch.equal(rows, torch.from_numpy(PIXELS).reshape(1, 16))
    # As the data set has them: the model was trained on permuted pixels.
    assert torch.equal(read_input(path, SEQUENCE, permuted=True), rows[:, permutation(16)])
    numpy.save(tmp_path / "rows.npy", PIXELS.ravel())
    assert torch.equal(read_input(tmp_path / "rows.npy", SEQUENCE, permuted=True), rows)


def sixteen_bits(path: Path) -> None:
    Image.fromarray(PIXELS.astype(numpy.uint16) * 256).save(path)


def transparent(path: Path) -> None:
    image = Image.fromarray(PIXELS).convert("RGBA")
    image.putpixel((1, 2), (0, 0, 0, 0))
    image.save(path)


def odd(path: Path) -> None:
    Image.new("L", (7, 3)).save(path)


def huge(path: Path) -> None:
    Image.new("1", (20_000, 20_000)).save(path)  # which Pillow itself refuses, as too large to be a picture


def truncated(path: Path) -> None:
    Image.fromarray(PIXELS).save(path)
    path.write_bytes(path.read_bytes()[:60])


def text(path: Path) -> None:
    path.write_text("no image")


def test_images_for_models_that_see_none(tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    Image.fromarray(PIXELS).save(path)
    with pytest.raises(DataError, match=r"image.png: an image has 1 or 3 channels, the model 2; give a .npy file"):
        read_input(path, dataclasses.replace(GREY, in_channels=2))
    odd(path)
    with pytest.raises(DataError, match=r"image.png: found 3×7 pixels, expected 16 in all; resize it"):
        read_input(path, SEQUENCE)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (sixteen_bits, r"pixels of mode I.*, expected 8 bits a channel; convert it"),
        (transparent, "has transparent pixels.*flatten it"),
        (odd, r"found 3×7 pixels, expected 4×4; resize it"),
        (huge, "not an image that Pillow reads"),
        (truncated, "not an image that Pillow reads"),
        (text, "not an image that Pillow reads"),
        (Path.touch, "not an image that Pillow reads"),
        (Path.mkdir, "no such file"),
    ],
)
def test_images_that_cannot_be_used(write: Callable[[Path], None], message: str, tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    write(path)
    with pytest.raises(DataError, match=f"image.png: {message}"):
        read_input(path, GREY)


def archive(path: Path) -> None:
    with path.open("wb") as file:
        numpy.savez(file, PIXELS)


def objects(path: Path) -> None:
    numpy.save(path, numpy.array([{}], dtype=object), allow_pickle=True)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (archive, "not a plain .npy array .* archives"),
        (objects, "not a plain .npy array .* arrays of objects, are refused"),
        (Path.touch, "not a plain .npy array"),
        (lambda path: numpy.save(path, PIXELS.astype("complex64")), "found dtype complex64"),
        (lambda path: numpy.save(path, PIXELS[:3]), r"found shape \(3, 4\), expected \(1, 4, 4\)"),
    ],
)
def test_arrays_that_cannot_be_used(write: Callable[[Path], None], message: str, tmp_path: Path) -> None:
    path = tmp_path / "array.npy"
    write(path)
    with pytest.raises(DataError, match=f"array.npy: {message}"):
        read_input(path, GREY)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run whose samples are bytes."""
    folder = tmp_path_factory.mktemp("run")
    run = trainer()
    run.folder = folder
    run.fit(steps=2)
    return folder


def trainer() -> Trainer:
    data = make_data()
    train = dataclasses.replace(data.train, inputs=data.train.inputs.mul(80).to(torch.uint8))
    test = dataclasses.replace(data.test, inputs=train.inputs[:10])
    return Trainer(make_model(), dataclasses.replace(data, train=train, test=test), RECIPE)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (numpy.full((4, 4), numpy.nan), "holds NaN or infinity"),
        (PIXELS.astype("int64"), r"found numbers from \d+ to \d+, expected bytes \(uint8\), or 0 to 1"),
        (PIXELS / 128, r"found numbers from 0\.\d+ to 1\.\d+, expected bytes"),
    ],
)
def test_values_that_the_data_cannot_hold(values: Any, message: str, saved: Path, tmp_path: Path) -> None:
    numpy.save(tmp_path / "array.npy", values)
    with pytest.raises(DataError, match=message):
        predict(Checkpoint.load(saved), [tmp_path / "array.npy"])


def test_bytes_and_fractions_are_answered_alike(saved: Path, tmp_path: Path) -> None:
    for dtype, name in ((numpy.uint8, "bytes.npy"), (numpy.float32, "fractions.npy")):
        numpy.save(tmp_path / name, PIXELS if dtype is numpy.uint8 else PIXELS / dtype(255))
    first, second = predict(Checkpoint.load(saved), [tmp_path / "bytes.npy", tmp_path / "fractions.npy"])
    assert first.label == second.label
    assert first.probability == pytest.approx(second.probability, rel=1e-4)  # one of them was rounded to float32


def rewrite(saved: Path, target: Path, metadata: dict[str, Any], **tensors: torch.Tensor) -> Checkpoint:
    """The checkpoint with other metadata or tensors, from a file."""
    from safetensors.torch import load_file, save_file

    found = load_file(saved / "last.safetensors")
    save_file({**found, **tensors}, target / "other.safetensors", metadata={"tzwc": json.dumps(metadata)})
    return Checkpoint.load(target / "other.safetensors")


@pytest.fixture
def metadata(saved: Path) -> dict[str, Any]:
    from safetensors import safe_open

    with safe_open(saved / "last.safetensors", framework="pt") as file:
        found: dict[str, Any] = json.loads(file.metadata()["tzwc"])
    return copy.deepcopy(found)


FIELDS = ("spec", "recipe", "data", "normalisation", "step", "optimizer", "running", "seconds", "history")


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("value", [None, -1, "x", [1, 2], {"a": 1}], ids=repr)
def test_metadata_of_another_kind_are_refused(
    field: str, value: object, saved: Path, metadata: dict[str, Any], tmp_path: Path
) -> None:
    if (field, value) in (("spec", None), ("data", "x")):
        return  # a model that is no Terminator, and a data set of another name
    with pytest.raises(CheckpointError, match=r"its metadata are not those of 'tzwc-training-1'"):
        rewrite(saved, tmp_path, metadata | {field: value})


def other_sizes(metadata: dict[str, Any]) -> None:
    metadata["spec"]["sizes"] = [8, 8]


def flat_normalisation(metadata: dict[str, Any]) -> None:
    metadata["normalisation"] = [[0.0], [0.0]]


def more_channels(metadata: dict[str, Any]) -> None:
    metadata["normalisation"] = [[0.0, 0.0], [1.0, 1.0]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (other_sizes, r"mates = \(8, 1, 4, 4\): expected samples of \(1, 8, 8\)"),
        (flat_normalisation, "normalisation = .*positive deviations"),
        (more_channels, "normalisation = 2: expected one mean for each of 1 channels"),
    ],
)
def test_metadata_that_contradict_the_tensors_are_refused(
    change: Callable[[dict[str, Any]], None], message: str, saved: Path, metadata: dict[str, Any], tmp_path: Path
) -> None:
    change(metadata)
    with pytest.raises(CheckpointError, match=message):
        rewrite(saved, tmp_path, metadata)


def test_another_declaration_is_said_when_the_model_is_made(
    saved: Path, metadata: dict[str, Any], tmp_path: Path
) -> None:
    metadata["spec"]["classes"] = 7
    with pytest.raises(CheckpointError, match="parameters and declaration do not belong together"):
        rewrite(saved, tmp_path, metadata).model()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("optimizer/0/moment_1", "another model: moment_1 of parameter 0 has the shape"),
        ("optimizer/9999/moment_1", "another model: list index out of range"),
        ("optimizer/x/y", "another model: invalid literal"),
        ("parameters/head.weight", "parameters/head.weight: the checkpoint holds another model"),
        ("average/head.weight", "average/head.weight: the checkpoint holds another model"),
        ("parameters/more", "parameters/more: the checkpoint holds another model"),
    ],
)
def test_tensors_of_another_model_are_not_resumed(
    name: str, message: str, saved: Path, metadata: dict[str, Any], tmp_path: Path
) -> None:
    found = rewrite(saved, tmp_path, metadata, **{name: torch.zeros(2, 2, 2, 2, 2)})
    run = trainer()
    before = [parameter.detach().clone() for parameter in run.model.parameters()]
    with pytest.raises(CheckpointError, match=message):
        run.resume(found)
    assert all(torch.equal(a, b) for a, b in zip(before, run.model.parameters(), strict=True))


def test_other_samples_of_the_same_name_are_not_resumed(saved: Path) -> None:
    run = trainer()
    run.data.train.inputs[0] += 1
    with pytest.raises(CheckpointError, match="data = 'toy': the checkpoint was made with other samples"):
        run.resume(Checkpoint.load(saved))


def test_the_spec_is_read_from_the_file(saved: Path) -> None:
    spec = Checkpoint.load(saved).spec
    assert isinstance(spec, TerminatorSpec)
    assert spec == make_model().spec
