"""Entries are read as they were written or not at all, by any number of processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tzwc.util.disk_cache
from tests.support.examples import examples
from tzwc.util.disk_cache import LARGEST, Store, TuningWarning, seconds_of

KEY = {"machine": {"cpu": "x"}, "problem": {"batch": 1, "lengths": (3, 4)}}


@pytest.fixture(autouse=True)
def _nothing_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tzwc.util.disk_cache, "_said", set())


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "deep" / "tuning")


def only_file(store: Store) -> Path:
    (path,) = store.folder.iterdir()
    return path


def test_what_was_put_is_got(store: Store) -> None:
    assert store.get("choice", KEY) is None
    assert store.put("choice", KEY, {"winner": "native"})
    assert store.get("choice", KEY) == {"winner": "native"}
    assert store.get("calibration", KEY) is None
    assert store.get("choice", {**KEY, "more": 1}) is None
    assert store.put("choice", KEY, [2])
    assert store.get("choice", KEY) == [2]
    assert len(list(store.folder.iterdir())) == 1  # nothing temporary is left


def test_the_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TZWC_CACHE_DIR", str(tmp_path / "mine"))
    assert Store().folder == tmp_path / "mine" / "tuning"


DAMAGED = {
    "empty": b"",
    "not text": b"\xff\xfe\x00",
    "not JSON": b"{'a': 1}",
    "NaN": b'{"format":"tzwc tuning","schema":1,"kind":"choice","key":{},"value":NaN}',
    "deep": b"[" * 100_000,
    "long number": b'{"format":' + b"9" * 10_000 + b"}",
    "a list": b"[]",
    "foreign": b'{"format":"something else"}',
    "newer": b'{"format":"tzwc tuning","schema":2,"key":{},"value":1}',
    "another key": b'{"format":"tzwc tuning","schema":1,"kind":"choice","key":{},"value":1}',
    "no key": b'{"format":"tzwc tuning","schema":1,"value":1}',
    "no value": b'{"format":"tzwc tuning","schema":1,"key":{}}',
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_file_that_is_no_entry_is_a_miss_said_once_and_replaced(store: Store, name: str) -> None:
    store.put("choice", KEY, 1)
    only_file(store).write_bytes(DAMAGED[name])
    with pytest.warns(TuningWarning, match=r"counts as missing"):
        assert store.get("choice", KEY) is None
    assert store.get("choice", KEY) is None  # and no other warning, which would be an error
    assert len(store.entries()) == 1
    assert store.put("choice", KEY, 2)
    assert store.get("choice", KEY) == 2


@pytest.mark.parametrize("kind", ["pipe", "folder", "large", "dangling"])
def test_what_is_no_regular_file_is_not_waited_for(store: Store, kind: str) -> None:
    store.put("choice", KEY, 1)
    path = only_file(store)
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "large":
        with path.open("wb") as file:
            file.truncate(LARGEST + 1)
    else:
        path.symlink_to("nowhere")
        assert store.get("choice", KEY) is None
        return
    with pytest.warns(TuningWarning, match="cannot be read"):
        assert store.get("choice", KEY) is None


WHOLE = json.dumps(
    {
        "format": "tzwc tuning",
        "schema": 1,
        "kind": "choice",
        "key": {"machine": {"cpu": "x"}, "problem": {"batch": 1, "lengths": [3, 4]}},
        "value": {"winner": "native"},
    }
).encode()


@settings(max_examples=examples(60))
@given(data=st.data())
def test_any_bytes_are_the_entry_or_a_miss(data: st.DataObject) -> None:
    cut = st.integers(0, len(WHOLE) - 1).map(lambda n: WHOLE[:n])
    flip = st.tuples(st.integers(0, len(WHOLE) - 1), st.integers(0, 255)).map(
        lambda at: WHOLE[: at[0]] + bytes([at[1]]) + WHOLE[at[0] + 1 :]
    )
    values = st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(), lambda s: st.lists(s) | st.dictionaries(st.text(), s)
    )
    content = data.draw(st.binary() | cut | flip | values.map(lambda v: json.dumps(v).encode()))
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", TuningWarning)
        store = Store(Path(folder))
        store.put("choice", KEY, {"winner": "native"})
        only_file(store).write_bytes(content)
        found = store.get("choice", KEY)
        if found is not None:  # the key is whole; what the value says is for its reader to judge
            assert json.loads(content)["key"] == json.loads(WHOLE)["key"]
        store.entries()
        assert store.put("choice", KEY, 3)
        assert store.get("choice", KEY) == 3


@pytest.mark.parametrize(
    "value", [None, [], {"a": "b"}, {"a": -1}, {"a": True}, {"a": 0}, {"a": 10**400}, {"a": 1e999}]
)
def test_seconds_that_nobody_measured_are_refused(value: Any) -> None:
    with pytest.raises(ValueError, match=r"holds no table|says that"):
        seconds_of(value)
    assert seconds_of({"a": 1}) == {"a": 1.0}


def test_a_directory_that_cannot_be_made_is_said_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    store = Store(tmp_path / "file" / "tuning")
    with pytest.warns(TuningWarning, match="cannot be written to"):
        assert not store.put("choice", KEY, 1)
    assert not store.put("choice", KEY, 1)
    assert store.entries() == []
    assert store.clear() == []


def test_a_directory_that_cannot_be_written_to_is_said_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(tzwc.util.disk_cache.tempfile, "mkstemp", refuse)  # root may write everywhere
    with pytest.warns(TuningWarning, match="Permission denied"):
        assert not store.put("choice", KEY, 1)
    assert not store.put("choice", KEY, 1)


def test_an_interrupted_write_leaves_the_old_entry(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.put("choice", KEY, 1)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        store.put("choice", KEY, 2)
    monkeypatch.undo()
    assert store.get("choice", KEY) == 1
    assert len(list(store.folder.iterdir())) == 1


def test_clear_deletes_its_own_files_only(store: Store) -> None:
    store.put("choice", KEY, 1)
    store.put("calibration", KEY, 1)
    own = {path.name for path in store.folder.iterdir()}
    others = ["notes.json", "choice-1.json", "choice-" + "g" * 32 + ".json", "choice-" + "0" * 32 + ".json.bak"]
    for name in others:
        (store.folder / name).write_text("{}")
    (store.folder / ("choice-" + "0" * 32 + ".json")).mkdir()
    left = store.folder / (".choice-" + "1" * 32 + ".abc.part")
    left.write_text("half an en")
    os.utime(left, (0, 0))
    fresh = store.folder / (".choice-" + "2" * 32 + ".abc.part")
    fresh.write_text("about to be renamed")
    assert {entry.path.name for entry in store.clear()} == own | {left.name}
    assert all((store.folder / name).exists() for name in [*others, fresh.name])


def test_clear_removes_the_folder_when_nothing_else_is_in_it(store: Store) -> None:
    store.put("choice", KEY, 1)
    store.clear()
    assert not store.folder.exists()


WRITER = """
import sys, time
from pathlib import Path
from tzwc.util.disk_cache import Store

store, mine = Store(Path(sys.argv[1])), sys.argv[2]
print("ready", flush=True)
sys.stdin.readline()
for turn in range(200):
    assert store.put("choice", {"same": 1}, [mine * 5000, turn])
    found = store.get("choice", {"same": 1})
    if found is None and mine == "a":  # just cleared by b
        continue
    assert len(found[0]) == 5000 and len(set(found[0])) == 1, found[0][:20]
    if mine == "b" and turn % 50 == 0:
        store.clear()
        store.put("choice", {"same": 1}, [mine * 5000, turn])
"""


@pytest.fixture
def two_writers(store: Store) -> Iterator[list[subprocess.Popen[str]]]:
    writers = [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-c", WRITER, str(store.folder), name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for name in "ab"
    ]
    yield writers
    for writer in writers:
        writer.kill()
        writer.communicate()


def test_two_processes_at_once(store: Store, two_writers: list[subprocess.Popen[str]]) -> None:
    for writer in two_writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
    for writer in two_writers:
        assert writer.stdin is not None
        writer.stdin.write("\n")
        writer.stdin.flush()
    for writer in two_writers:
        _, errors = writer.communicate(timeout=300)
        assert writer.returncode == 0, errors
    assert store.get("choice", {"same": 1})[1] == 199
    assert len(list(store.folder.iterdir())) == 1


def test_a_folder_that_others_clear_all_the_time_is_given_up(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[Path] = []

    def gone(path: Path, _text: str) -> None:
        tries.append(path)
        raise FileNotFoundError(2, "No such file or directory")

    with monkeypatch.context() as patch:
        patch.setattr(tzwc.util.disk_cache, "_replace", gone)
        with pytest.warns(TuningWarning, match="cannot be written to"):
            assert not store.put("choice", {"a": 1}, 2)
    assert len(tries) == 9
    assert store.put("choice", {"a": 1}, 2)
