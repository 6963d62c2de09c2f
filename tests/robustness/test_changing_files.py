"""Files that change while they are read: what they held at one moment, or an error; never a hang, never a crash."""

from __future__ import annotations

import io
import json
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import tzwc
from tests.support.checkpoint_files import valid as checkpoint
from tests.support.data_files import SPEC, idx, image, npy
from tests.support.hostile_input import answer
from tests.support.measurement_files import CHOICE, KEY, LEGAL, PROBLEM, entry
from tests.support.tiny_model import Tiny
from tzwc.autotune.choice import choose
from tzwc.bench.journal import Journal
from tzwc.data import load
from tzwc.data.idx import read_idx
from tzwc.errors import TzwcError
from tzwc.inspection.load import load_stage
from tzwc.training import Checkpoint
from tzwc.training.prediction import read_input
from tzwc.util.disk_cache import Store, TuningWarning
from tzwc.util.paths import read_whole


def _shrink(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _empty(path: Path) -> None:
    os.truncate(path, 0)


def _grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"\xff" * 100)


def _replace(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(b"PK\x03\x04" * 40)
    other.replace(path)


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


CHANGES = [_shrink, _empty, _grow, Path.unlink, _replace, _folder, _pipe]
MOMENTS = ["before it is opened", "before it is read", "in the middle"]


class _Slow(io.FileIO):
    """Gives a few bytes at a time, and changes its file behind the first ones."""

    def __init__(self, handle: int, change: Callable[[], object]) -> None:
        super().__init__(handle)
        self._change = change

    def read(self, size: int | None = -1, /) -> bytes:
        part = super().read(min(40, size if size is not None and size >= 0 else 40))
        self._change()
        return part


def changing(patch: pytest.MonkeyPatch, path: Path, change: Callable[[Path], object], moment: str) -> None:
    """Let ``change`` come over ``path``, once, when ``tzwc`` reads it."""
    opened, left = os.open, [change]

    def now() -> None:
        if left:
            left.pop()(path)

    def open_(name: Any, flags: int, *rest: Any) -> int:
        if moment == MOMENTS[0]:
            now()
        handle = opened(name, flags, *rest)
        if moment == MOMENTS[1]:
            now()
        return handle

    patch.setattr(os, "open", open_)
    patch.setattr(os, "fdopen", lambda handle, *_, **__: _Slow(handle, now if moment == MOMENTS[2] else int))


def _stage() -> bytes:
    fast = tzwc.compile(Tiny(), backend="eager")
    fast(torch.ones(2, 3))
    return fast.stages[0].to_json().encode()


def _parameters(path: Path) -> list[Any]:
    return [(name, value.tolist()) for name, value in sorted(Checkpoint.load(path).parameters.items())]


FILES: dict[str, tuple[Callable[[], bytes], Callable[[Path], object]]] = {
    "idx": (lambda: idx(3, 28, 28), lambda path: read_idx(path, 3).tolist()),
    "array.npy": (npy, lambda path: read_input(path, SPEC).tolist()),
    "picture.png": (lambda: image("png"), lambda path: read_input(path, SPEC).tolist()),
    "last.safetensors": (checkpoint, _parameters),
    "00_capture.json": (_stage, lambda path: load_stage(path).to_json()),
}


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__.strip("_"))
@pytest.mark.parametrize("name", FILES)
def test_files(
    name: str, change: Callable[[Path], object], moment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content, read = FILES[name]
    path = tmp_path / name
    path.write_bytes(content())
    before = read(path)
    with monkeypatch.context() as patch:
        changing(patch, path, change, moment)
        found = answer(lambda: read(path))
    assert isinstance(found, TzwcError) or found == before
    # What was opened stays what it is, whatever is put in its place, and what is appended later is not read.
    if (moment != MOMENTS[0] and change in (Path.unlink, _replace, _folder, _pipe)) or (
        moment == MOMENTS[2] and change is _grow
    ):
        assert found == before


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__.strip("_"))
def test_a_remembered_choice(
    change: Callable[[Path], object], moment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path)
    path = store._path("choice", KEY)
    path.write_text(entry("choice", KEY, CHOICE))
    tzwc.util.disk_cache._said.clear()
    with monkeypatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore", TuningWarning)
        changing(patch, path, change, moment)
        assert store.get("choice", KEY) in (None, CHOICE)
        patch.undo()
        assert choose(PROBLEM, tune="measure", store=store).algorithm in LEGAL


@pytest.mark.parametrize("change", [_empty, Path.unlink, _folder], ids=["empty", "unlink", "folder"])
def test_one_of_several_files(
    change: Callable[[Path], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The labels are gone when the images have been read."""
    for prefix in ("train", "t10k"):
        (tmp_path / f"{prefix}-images-idx3-ubyte").write_bytes(idx(3, 28, 28))
        (tmp_path / f"{prefix}-labels-idx1-ubyte").write_bytes(idx(3))
    labels = tmp_path / "train-labels-idx1-ubyte"
    opened = os.open

    def open_(name: Any, flags: int, *rest: Any) -> int:
        if name == labels:
            change(labels)
        return opened(name, flags, *rest)

    monkeypatch.setattr(os, "open", open_)
    with pytest.raises(TzwcError, match="train-labels"):
        load("mnist", tmp_path)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name in (tmp_path / "pipe", Path("/dev/zero"), tmp_path):
        with pytest.raises(OSError, match=r"not a regular file|Is a directory"):
            read_whole(name)


def test_a_file_that_is_too_large(tmp_path: Path) -> None:
    (tmp_path / "sparse").touch()
    os.truncate(tmp_path / "sparse", 2**40)  # takes no room
    with pytest.raises(OSError, match="at most 1,000 are read"):
        read_whole(tmp_path / "sparse", 1000)
    with pytest.raises(TzwcError, match="sparse"):
        Checkpoint.load(tmp_path / "sparse")


def test_a_journal_that_somebody_deletes(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    journal = Journal(path, {"seed": 1})
    journal.once("case", 0, lambda: {"n": 0})
    path.unlink()
    journal.once("case", 1, lambda: {"n": 1})
    assert [json.loads(line)["number"] for line in path.read_text().splitlines()] == [1]
