"""What the drawn tests have found, one by one: each ended in a foreign exception, or in none where one was due."""

from __future__ import annotations

import gzip
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import tzwc
import tzwc.data.files
from tests.robustness.test_data_files import SPEC, archive, npy
from tests.robustness.test_released import valid
from tests.robustness.tiny import Tiny
from tests.training.toy import RECIPE, make_data, make_model
from tzwc.data import DataError, load
from tzwc.errors import InvalidArgumentError, SpecError
from tzwc.factory import InputSpec
from tzwc.inspection.load import load_stage, pairs
from tzwc.models import SlowNetSpec, TerminatorSpec, load_released, terminator, terminator_spec
from tzwc.options import CompileOptions
from tzwc.training import Recipe, Trainer
from tzwc.training.checkpoint import CheckpointError, optimizer_state, restore_optimizer
from tzwc.training.prediction import read_input

PAIR: Any = np.array([1, 2])  # neither true nor false
LARGE = 10**400  # beyond all floats

DECLARATIONS: dict[str, Callable[[], object]] = {
    "a list for a branch": lambda: TerminatorSpec(concat=([],)),  # type: ignore[arg-type]
    "bytes for fields": lambda: TerminatorSpec.from_dict(b"x"),  # type: ignore[arg-type]
    "a list for a preset": lambda: terminator_spec([]),  # type: ignore[arg-type]
    "an array for a word": lambda: terminator_spec("digits", form=PAIR),
    "a frequency beyond floats": lambda: SlowNetSpec(hidden=1, omega_0=LARGE),
    "a number for sizes": lambda: terminator("digits").at_resolution(3),  # type: ignore[arg-type]
    "a number for a recipe": lambda: Recipe.from_dict(3),  # type: ignore[arg-type]
    "an object for a truth": lambda: Recipe(flip="no"),  # type: ignore[arg-type]
    "half a pixel": lambda: Recipe(crop=0.5),  # type: ignore[arg-type]
    "half a seed": lambda: Recipe(seed=0.5),  # type: ignore[arg-type]
    "a rate beyond floats": lambda: Recipe(lr=LARGE),
    "epochs beyond floats": lambda: Recipe(epochs=LARGE),
    "an array for a loss": lambda: Recipe(slow_loss=PAIR),
    "a list for options": lambda: Recipe(optimizer_options=["betas"]),  # type: ignore[arg-type]
    "an option that JSON has not": lambda: Recipe(optimizer_options={"betas": torch.ones(2)}),
}


@pytest.mark.parametrize("name", DECLARATIONS)
def test_declarations(name: str) -> None:
    with pytest.raises(SpecError, match="expected"):
        DECLARATIONS[name]()


ARGUMENTS: dict[str, Callable[[], object]] = {
    "no passes": lambda: CompileOptions(passes=None),  # type: ignore[arg-type]
    "an array for a backend": lambda: CompileOptions(backend=PAIR),
    "an array for a check": lambda: CompileOptions(check=PAIR),
    "a number for a truth": lambda: CompileOptions(verify=2),  # type: ignore[arg-type]
    "letters for passes": lambda: tzwc.compile(Tiny(), passes="cse"),
    "a tensor for passes": lambda: tzwc.compile(Tiny(), passes=torch.tensor(3)),  # type: ignore[arg-type]
    "a size of 5,000 digits": lambda: InputSpec.parse("9" * 5000),
    "a list for a data set": lambda: load([]),  # type: ignore[arg-type]
    "nothing for a state": lambda: load_released(None),  # type: ignore[arg-type]
    "nothing for a name": lambda: load_released({**valid(), None: PAIR}),  # type: ignore[dict-item]
    "nothing for a tensor": lambda: load_released({**valid(), "x": None}),  # type: ignore[dict-item]
    "words for a tensor": lambda: load_released({**valid(), "x": np.array(["a"])}),
    "other byte order": lambda: load_released({**valid(), "x": np.ones(2, ">f4")}),
    "a name that is too long": lambda: list(pairs(Path("x" * 300), "y" * 300, None)),
    "a name that is none": lambda: load_stage(Path("\udcff\ud800")),
    "a device that never ends": lambda: load_stage(Path("/dev/zero")),
}


@pytest.mark.parametrize("name", ARGUMENTS)
def test_arguments(name: str) -> None:
    with pytest.raises(InvalidArgumentError):
        ARGUMENTS[name]()


def _header(text: bytes) -> bytes:
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


def _png(width: int, height: int) -> bytes:
    """A picture of one colour, which takes no room whatever its size."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


FILES = {
    "not closed.npy": _header(b"{'descr': '<f4', 'shape': (8, 8\n"),
    "closed twice.npy": _header(b"{'descr': '<f4', 'shape': )8, 8), }\n"),
    "null bytes.npy": _header(b"{'descr': \0 }\n"),
    "huge.npy": _header(b"{'descr': '<f4', 'fortran_order': False, 'shape': (99999999, 9999999), }\n"),
    "archive.npy": archive(),
    "objects.npy": npy("O"),
    "huge.png": _png(30_000, 30_000),
    "no number.ppm": b"P6 :5 8 255\n" + bytes(192),
}


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's opinion of the huge one
@pytest.mark.parametrize("name", FILES)
def test_files(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(FILES[name])
    with pytest.raises(DataError, match=name):
        read_input(tmp_path / name, SPEC)


def test_a_file_that_unpacks_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tzwc.data.files, "LARGEST", 1000)
    path = tmp_path / "bomb.gz"
    path.write_bytes(gzip.compress(bytes(10_000)))
    with pytest.raises(DataError, match="unpack to more than 1,000"):
        tzwc.data.files.read(path)


def _drop(tensors: dict[str, Any], rest: dict[str, Any]) -> None:
    del tensors["0/moment_1"], rest


def _reshape(tensors: dict[str, Any], rest: dict[str, Any]) -> None:
    tensors["0/moment_1"] = torch.ones(7)
    del rest


def _index(tensors: dict[str, Any], rest: dict[str, Any]) -> None:
    tensors["99999/moment_1"] = tensors.pop("0/moment_1")
    del rest


def _group(tensors: dict[str, Any], rest: dict[str, Any]) -> None:
    del tensors
    rest["groups"][0]["betas"] = "x"


@pytest.mark.parametrize("change", [_drop, _reshape, _index, _group])
def test_the_state_of_an_optimiser(change: Callable[[dict[str, Any], dict[str, Any]], None]) -> None:
    run = Trainer(make_model(), make_data(), RECIPE)
    run.fit(steps=1)
    tensors, rest = optimizer_state(run.optimizer)
    change(tensors, rest)
    with pytest.raises(CheckpointError, match="belongs to another model"):
        restore_optimizer(run.optimizer, tensors, rest)


@pytest.mark.filterwarnings("ignore:.*nested tensors is in prototype")
def test_nested_tensors_go_to_the_module_as_it_was() -> None:
    class Doubled(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * 2

    x = torch.nested.nested_tensor([torch.ones(2), torch.ones(3)])
    found = tzwc.compile(Doubled(), backend="eager")(x)
    assert torch.equal(found.to_padded_tensor(0.0), (x * 2).to_padded_tensor(0.0))
