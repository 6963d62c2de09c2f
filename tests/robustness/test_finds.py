"""What the drawn tests have found, one by one: each ended in a foreign exception, or in none where one was due."""

from __future__ import annotations

import enum
import gzip
import struct
import subprocess
import sys
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
from tests.support.checkpoint_files import valid as checkpoint
from tests.support.data_files import SPEC, archive, npy
from tests.support.raising_objects import unkind
from tests.support.tiny_model import Tiny
from tests.support.training_toy import RECIPE, make_data, make_model
from tests.support.valid_files import valid
from tzwc.data import DataError, load
from tzwc.errors import InvalidArgumentError, SpecError
from tzwc.inspection.load import load_stage, pairs
from tzwc.models import SlowNetSpec, Terminator, TerminatorSpec, load_released, terminator, terminator_spec
from tzwc.options import CompileOptions
from tzwc.targets import InputSpec, resolve
from tzwc.training import Checkpoint, Recipe, Trainer
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
    "an object that cannot be shown": lambda: terminator_spec("digits", sizes=unkind(object(), "__repr__")),
    "a word that cannot be compared": lambda: terminator_spec("digits", form=unkind("dot", "__eq__")),
    "a preset that cannot be compared": lambda: terminator_spec(unkind("x", "__eq__")),
    "a number for the name of a field": lambda: TerminatorSpec.from_dict({3: 3}),  # type: ignore[dict-item]
    "channels beyond all tensors": lambda: terminator_spec("digits", factors=(2**60,) * 300, groups=2),
    "channels that Python does not print": lambda: terminator_spec("digits", in_channels=10**5000),
    "sizes whose ratio is no float": lambda: terminator_spec("digits", sizes=(LARGE, LARGE), trained_sizes=(2, 2)),
    "sizes whose ratio is zero": lambda: terminator_spec("digits", sizes=(2, 2), trained_sizes=(LARGE, LARGE)),
}


@pytest.mark.parametrize("name", DECLARATIONS)
def test_declarations(name: str) -> None:
    with pytest.raises(SpecError, match="expected"):
        DECLARATIONS[name]()


def test_objects_that_say_nothing_of_their_class() -> None:
    """``isinstance`` asks them."""
    with pytest.raises(SpecError, match="raises Unkind"):
        terminator_spec("digits", form=unkind(object(), "__class__"))
    with pytest.raises(InvalidArgumentError, match="raises Unkind"):
        tzwc.compile(Tiny(), backend=unkind(object(), "__class__"))


def test_words_and_numbers_of_other_classes_are_taken_as_what_they_are() -> None:
    """They were kept, and failed where the declaration was compared or written."""
    spec = terminator_spec(unkind("digits", "__hash__"), hci_net={"hidden": unkind(4, "__repr__")})
    assert spec == terminator_spec("digits", hci_net={"hidden": 4})
    assert type(spec.hci_net.hidden) is int


def test_many_blocks_are_checked_quickly() -> None:
    """The channels of every block were multiplied anew for every other block: hours, more than any test may take."""
    spec = terminator_spec("digits", factors=(12,) + (1,) * 12_000)
    assert spec.channels == (1,) + (12,) * 12_001


def test_a_model_too_large_for_the_machine() -> None:
    spec = terminator_spec("digits", sizes=(2**20, 2**20))
    with pytest.raises(SpecError, match=r"takes 48\.0 TiB, and cpu has .* lower sizes"):
        Terminator(spec)
    with pytest.raises(InvalidArgumentError, match="smaller sizes"):
        InputSpec.parse("99999999x9999999").make(torch.float32, torch.Generator())


ARGUMENTS: dict[str, Callable[[], object]] = {
    "no passes": lambda: CompileOptions(passes=None),  # type: ignore[arg-type]
    "an array for a backend": lambda: CompileOptions(backend=PAIR),
    "an array for a check": lambda: CompileOptions(check=PAIR),
    "a number for a truth": lambda: CompileOptions(verify=2),  # type: ignore[arg-type]
    "letters for passes": lambda: tzwc.compile(Tiny(), passes="cse"),
    "a tensor for passes": lambda: tzwc.compile(Tiny(), passes=torch.tensor(3)),  # type: ignore[arg-type]
    "a size of 5,000 digits": lambda: InputSpec.parse("9" * 5000),
    "a number for sizes of an input": lambda: InputSpec.parse(3),  # type: ignore[arg-type]
    "a number for a target": lambda: resolve(3),  # type: ignore[arg-type]
    "a number for a folder": lambda: load("mnist", 3),  # type: ignore[arg-type]
    "a number for a checkpoint": lambda: Checkpoint.load(3),  # type: ignore[arg-type]
    "a text for a stage": lambda: load_stage("no such file"),  # type: ignore[arg-type]
    "a pass that cannot be shown": lambda: tzwc.compile(Tiny(), passes=[unkind(object(), "__repr__")]),
    "a backend that cannot be shown": lambda: CompileOptions(backend=unkind(object(), "__repr__")),
    "a list without end": lambda: CompileOptions(passes=_endless()),
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


def _endless() -> list[Any]:
    found: list[Any] = []
    found.append(found)
    return found


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


class Tagged(float):
    """A number that holds more than its value."""

    unit: float

    @classmethod
    def of(cls, value: float, unit: float) -> Tagged:
        made = cls(value)
        made.unit = unit
        return made


class Scaling(nn.Module):
    def forward(self, x: torch.Tensor, scale: Any) -> torch.Tensor:
        return x * scale * scale.unit


def test_numbers_that_hold_more_than_their_value() -> None:
    """The graph of one served another of the same value."""
    model, x = Scaling(), torch.ones(2)
    fast = tzwc.compile(model, backend="eager")
    for unit in (1.0, 5.0):
        assert torch.equal(fast(x, Tagged.of(2.0, unit)), model(x, Tagged.of(2.0, unit)))


class Choosing(nn.Module):
    def forward(self, x: torch.Tensor, given: Any) -> torch.Tensor:
        return x + 1 if given == Mode.PLUS else x - 1


class Mode(enum.IntEnum):
    PLUS = 1
    MINUS = 2


def test_members_of_enumerations_are_constants() -> None:
    fast = tzwc.compile(Choosing(), backend="eager")
    for mode in Mode:
        assert torch.equal(fast(torch.ones(2), mode), Choosing()(torch.ones(2), mode))
    assert len(fast.specialisations) == 2


def test_tensors_are_not_those_of_the_file_any_more(tmp_path: Path) -> None:
    path = tmp_path / "last.safetensors"
    path.write_bytes(checkpoint())
    saved = Checkpoint.load(path)
    before = {name: value.clone() for name, value in saved.parameters.items()}
    with path.open("r+b") as file:
        file.write(b"\x01" * len(checkpoint()))
    assert all(torch.equal(value, before[name]) for name, value in saved.parameters.items())


def test_a_checkpoint_that_is_cut_later(tmp_path: Path) -> None:
    """In a process of its own, which a mapped file would end."""
    path = tmp_path / "last.safetensors"
    path.write_bytes(checkpoint())
    script = (
        "import os, sys; from pathlib import Path; from tzwc.training import Checkpoint\n"
        "saved = Checkpoint.load(Path(sys.argv[1])); os.truncate(sys.argv[1], 0)\n"
        "print(float(sum(value.double().sum() for value in saved.parameters.values())))"
    )
    found = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=False)
    assert found.returncode == 0, (found.returncode, found.stderr)
    float(found.stdout)


@pytest.mark.filterwarnings("ignore:.*nested tensors is in prototype")
def test_nested_tensors_go_to_the_module_as_it_was() -> None:
    class Doubled(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * 2

    x = torch.nested.nested_tensor([torch.ones(2), torch.ones(3)])
    found = tzwc.compile(Doubled(), backend="eager")(x)
    assert torch.equal(found.to_padded_tensor(0.0), (x * 2).to_padded_tensor(0.0))
