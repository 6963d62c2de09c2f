"""Files of the standard formats, written here: small ones, and ones with every defect."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tzwc.data import DataError, load


def random_bytes(*sizes: int, seed: int = 0, high: int = 256) -> Tensor:
    return torch.randint(high, sizes, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def raw(values: Tensor) -> bytes:
    return bytes(values.flatten().tolist())


def idx(values: Tensor) -> bytes:
    return struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape) + raw(values)


IMAGES = {"train": random_bytes(5, 28, 28), "t10k": random_bytes(3, 28, 28, seed=1)}
LABELS = {"train": torch.tensor([3, 0, 9, 1, 1], dtype=torch.uint8), "t10k": torch.tensor([2, 7, 4], dtype=torch.uint8)}


def write_mnist(folder: Path, zipped: bool = False) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in IMAGES:
        for stem, values in ((f"{name}-images-idx3-ubyte", IMAGES[name]), (f"{name}-labels-idx1-ubyte", LABELS[name])):
            if zipped:
                (folder / f"{stem}.gz").write_bytes(gzip.compress(idx(values)))
            else:
                (folder / stem).write_bytes(idx(values))


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("inside", [".", "MNIST/raw"])
def test_mnist(tmp_path: Path, zipped: bool, inside: str) -> None:
    write_mnist(tmp_path / inside, zipped)
    data = load("mnist", tmp_path)
    assert torch.equal(data.train.inputs, IMAGES["train"].unsqueeze(1))
    assert data.train.labels.tolist() == [3, 0, 9, 1, 1]
    assert data.test.labels.tolist() == [2, 7, 4]
    assert data.train.labels.dtype == torch.int64
    rows, permuted = load("smnist", tmp_path), load("pmnist", tmp_path)
    assert rows.train.inputs.shape == permuted.train.inputs.shape == (5, 1, 784)
    assert torch.equal(rows.train.inputs[:, 0], IMAGES["train"].flatten(1))
    assert torch.equal(permuted.test.inputs.sort().values, rows.test.inputs.sort().values)


def test_cifar10(tmp_path: Path) -> None:
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    rows = {f"data_batch_{n}.bin": random_bytes(2, 3073, seed=n) for n in range(1, 6)}
    rows["test_batch.bin"] = random_bytes(3, 3073, seed=9)
    for name, row in rows.items():
        row[:, 0] %= 10
        (folder / name).write_bytes(raw(row))
    data = load("cifar10", tmp_path, partial=True)
    assert data.train.inputs.shape == (10, 3, 32, 32)
    third = rows["data_batch_2.bin"][0]
    assert data.train.labels[2] == third[0]
    assert data.train.inputs[2, 1, 4, 7] == third[1 + 1024 + 4 * 32 + 7]
    assert load("scifar10", folder, partial=True).test.inputs.shape == (3, 3, 1024)
    with pytest.raises(
        DataError, match=r"data_batch_1\.bin: found 6,146 bytes \(2 records\), expected .*10,000.*partial"
    ):
        load("cifar10", tmp_path)


def test_cifar100(tmp_path: Path) -> None:
    for seed, name in enumerate(("train.bin", "test.bin")):
        rows = random_bytes(4, 3074, seed=seed)
        rows[:, 0], rows[:, 1] = 200, torch.tensor([99, 0, 5, 6])  # the coarse label is not read
        (tmp_path / name).write_bytes(raw(rows))
    data = load("cifar100", tmp_path, partial=True)
    assert data.train.labels.tolist() == [99, 0, 5, 6]
    assert data.classes == 100
    assert torch.equal(data.test.inputs.flatten(1), random_bytes(4, 3074, seed=1)[:, 2:])


def test_stl10_is_stored_by_columns(tmp_path: Path) -> None:
    images = random_bytes(2, 3, 96, 96)
    for name in ("train", "test"):
        (tmp_path / f"{name}_X.bin").write_bytes(raw(images.transpose(2, 3)))
        (tmp_path / f"{name}_y.bin").write_bytes(bytes([1, 10]))
    data = load("stl10", tmp_path, partial=True)
    assert torch.equal(data.train.inputs, images)
    assert data.train.labels.tolist() == [0, 9]


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def page(path: Path) -> None:
    path.write_bytes(b"<!DOCTYPE html><html>not here</html>")


def empty(path: Path) -> None:
    path.write_bytes(b"")


def small(path: Path) -> None:
    path.write_bytes(idx(random_bytes(5, 8, 8)))


def none(path: Path) -> None:
    path.write_bytes(idx(random_bytes(0, 28, 28)))


def many_classes(path: Path) -> None:
    path.write_bytes(idx(torch.tensor([3, 0, 9, 1, 10], dtype=torch.uint8)))


@pytest.mark.parametrize(
    ("name", "harm", "message"),
    [
        ("train-images-idx3-ubyte", truncated, r"found 3,913 bytes of data, expected 3,920, .*5×28×28.*fetch it again"),
        ("train-images-idx3-ubyte", page, r"found a file that begins 3c 21 44 4f, expected an IDX file .*web page"),
        ("train-images-idx3-ubyte", small, r"found images of 5×8×8, expected at least one image of 28×28"),
        ("t10k-images-idx3-ubyte", none, r"found images of 0×28×28, expected at least one image of 28×28"),
        ("train-images-idx3-ubyte", empty, r"found 0 bytes, expected an IDX file"),
        ("train-labels-idx1-ubyte", many_classes, r"found labels from 0 to 10, expected labels from 0 to 9"),
        ("t10k-labels-idx1-ubyte", truncated, r"found 4 bytes, expected a header of 8"),
        ("t10k-labels-idx1-ubyte", Path.unlink, r"t10k-labels-idx1-ubyte: not found in .*--data must name the folder"),
    ],
)
def test_what_is_wrong_with_mnist_is_said(
    tmp_path: Path, name: str, harm: Callable[[Path], None], message: str
) -> None:
    write_mnist(tmp_path)
    harm(tmp_path / name)
    with pytest.raises(DataError, match=message):
        load("mnist", tmp_path)


def test_labels_of_other_images(tmp_path: Path) -> None:
    write_mnist(tmp_path)
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx(LABELS["t10k"]))
    with pytest.raises(DataError, match=r"found 3 labels, expected 5, one for each image of train-images"):
        load("mnist", tmp_path)


def test_a_damaged_gzip_file(tmp_path: Path) -> None:
    write_mnist(tmp_path, zipped=True)
    truncated(tmp_path / "train-images-idx3-ubyte.gz")
    with pytest.raises(DataError, match=r"idx3-ubyte\.gz: found .* do not unpack .*expected a whole gzip file"):
        load("mnist", tmp_path)


def test_a_truncated_record(tmp_path: Path) -> None:
    for name in ("train.bin", "test.bin"):
        (tmp_path / name).write_bytes(raw(random_bytes(2, 3074, high=90)))
    truncated(tmp_path / "test.bin")
    with pytest.raises(DataError, match=r"test\.bin: found 6,141 bytes, expected a multiple of 3,074 bytes"):
        load("cifar100", tmp_path, partial=True)


def test_labels_for_other_images_of_stl10(tmp_path: Path) -> None:
    for name, count in (("train", 2), ("test", 3)):
        (tmp_path / f"{name}_X.bin").write_bytes(raw(random_bytes(2, 3 * 96 * 96)))
        (tmp_path / f"{name}_y.bin").write_bytes(raw(random_bytes(count, high=9) + 1))
    with pytest.raises(DataError, match=r"test_y\.bin: found 3 labels, expected 2, one for each image of test_X\.bin"):
        load("stl10", tmp_path, partial=True)


@pytest.mark.parametrize(
    ("name", "file"), [("cifar10", "cifar-10-batches-py/data_batch_1"), ("cifar100", "cifar-100-python/train")]
)
def test_pickles_are_refused(tmp_path: Path, name: str, file: str) -> None:
    path = tmp_path / file
    path.parent.mkdir()
    path.write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    for folder in (tmp_path, path.parent):
        with pytest.raises(DataError, match=r"python version.*a pickle.*refused.*binary version"):
            load(name, folder)


def test_pickles_do_not_matter_beside_the_binary_version(tmp_path: Path) -> None:
    """Both archives have been unpacked in one folder."""
    (tmp_path / "cifar-100-python").mkdir()
    (tmp_path / "cifar-100-python" / "train").write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    (tmp_path / "cifar-100-binary").mkdir()
    for name in ("train.bin", "test.bin"):
        (tmp_path / "cifar-100-binary" / name).write_bytes(raw(random_bytes(2, 3074, high=90)))
    assert len(load("cifar100", tmp_path, partial=True).train) == 2


def test_no_such_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"--data .*nowhere: no such folder; give the folder that holds train_X\.bin"):
        load("stl10", tmp_path / "nowhere")
