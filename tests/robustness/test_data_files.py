"""Data files of every kind, damaged: a data set or an array, or a ``DataError`` that names the file."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.data_files import SPEC, archive, idx, image, npy
from tests.support.examples import examples
from tests.support.hostile_input import answer, damaged, objects, texts
from tzwc.data import DataError, Dataset, load
from tzwc.errors import TzwcError
from tzwc.training.prediction import read_input


def a_data_set(found: Any) -> None:
    if isinstance(found, TzwcError):
        assert isinstance(found, DataError)
        return
    assert isinstance(found, Dataset)
    for split in (found.train, found.test):
        assert len(split.inputs) == len(split.labels) > 0
        assert 0 <= int(split.labels.min()) <= int(split.labels.max()) < found.classes
        assert bool(found.normalise(split.inputs).isfinite().all())


MNIST = {"train-images-idx3-ubyte": (3, 28, 28), "train-labels-idx1-ubyte": (3,)}
MNIST |= {"t10k-images-idx3-ubyte": (2, 28, 28), "t10k-labels-idx1-ubyte": (2,)}


@settings(max_examples=examples(8))
@given(st.data())
def test_idx_files(tmp_path_factory: pytest.TempPathFactory, draw: st.DataObject) -> None:
    folder = tmp_path_factory.mktemp("mnist")
    hit, packed = draw.draw(st.sampled_from([*MNIST])), draw.draw(st.booleans())
    for name, sizes in MNIST.items():
        content = idx(*sizes)
        if name == hit:
            inside, outside = draw.draw(st.booleans()), gzip.compress
            content = draw.draw(damaged(content)) if inside or not packed else content
            content = outside(content) if packed else content
            content = content if inside or not packed else draw.draw(damaged(content))
        (folder / f"{name}{'.gz' if packed and name == hit else ''}").write_bytes(content)
    a_data_set(answer(lambda: load(draw.draw(st.sampled_from(["mnist", "smnist"])), folder)))


@settings(max_examples=examples(8))
@given(st.data())
def test_records(tmp_path_factory: pytest.TempPathFactory, draw: st.DataObject) -> None:
    folder = tmp_path_factory.mktemp("cifar")
    names = ["train.bin", "test.bin"]
    hit = draw.draw(st.sampled_from(names))
    for name in names:
        content = bytes([1, 7] + [i % 251 for i in range(3072)]) * 2
        (folder / name).write_bytes(draw.draw(damaged(content)) if name == hit else content)
    a_data_set(answer(lambda: load("cifar100", folder, partial=draw.draw(st.booleans()))))


@settings(max_examples=examples(8))
@given(st.data())
def test_stl(tmp_path_factory: pytest.TempPathFactory, draw: st.DataObject) -> None:
    folder = tmp_path_factory.mktemp("stl")
    names = {f"{part}_{kind}.bin": size for part in ("train", "test") for kind, size in (("X", 27648), ("y", 1))}
    hit = draw.draw(st.sampled_from([*names]))
    for name, size in names.items():
        content = bytes([1]) * (2 * size)
        (folder / name).write_bytes(draw.draw(damaged(content)) if name == hit else content)
    a_data_set(answer(lambda: load("stl10", folder, partial=True)))


@settings(max_examples=examples(8))
@given(st.one_of(texts, objects), st.one_of(st.none(), texts))
def test_names_of_data_sets(name: Any, folder: str | None) -> None:
    if not isinstance(name, str) or name not in ("digits", "mnist1d"):
        assert isinstance(answer(lambda: load(name, folder)), TzwcError)


def read(folder: Path, name: str, content: bytes) -> Any:
    path = folder / name
    path.write_bytes(content)
    return answer(lambda: read_input(path, SPEC))


@pytest.mark.parametrize("dtype", ["u1", "f4", "i8", ">f2", "O", "c8", "M8[s]", "U3", "u1,f4", "?", "f16"])
@settings(max_examples=examples(8))
@given(st.data())
def test_arrays(dtype: str, tmp_path_factory: pytest.TempPathFactory, draw: st.DataObject) -> None:
    foreign = [archive(), npy("f8", (0,)), npy("f8", ()), npy("u1", (1, 8, 8))]
    content = draw.draw(damaged(npy(dtype), foreign))
    found = read(tmp_path_factory.mktemp("npy"), "x.npy", content)
    assert isinstance(found, DataError) or (tuple(found.shape) == (1, 8, 8) and bool(found.isfinite().all()))


@pytest.mark.filterwarnings("ignore")  # of Pillow, about what it makes do with
@pytest.mark.parametrize("kind", ["png", "jpeg", "gif", "bmp", "tiff", "webp", "ppm"])
@settings(max_examples=examples(8))
@given(st.data())
def test_images(kind: str, tmp_path_factory: pytest.TempPathFactory, draw: st.DataObject) -> None:
    content = draw.draw(damaged(image(kind)))
    found = read(tmp_path_factory.mktemp("image"), f"x.{kind}", content)
    assert isinstance(found, DataError) or tuple(found.shape) == (1, 8, 8)
