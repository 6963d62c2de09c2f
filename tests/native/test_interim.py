"""A watch made before the extension was built becomes a native one, and misses nothing on the way."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from tzwc.native import ensure_native, watch_dicts, watch_tensors
from tzwc.native.loader import extension
from tzwc.native.python_watch import PythonDictWatch, PythonTensorWatch
from tzwc.native.watch import InterimDictWatch, InterimTensorWatch


@pytest.fixture
def late(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """An extension that is ready once the list holds True."""
    if not ensure_native(120):
        pytest.skip("the extension cannot be built here")
    ready: list[bool] = []
    request = extension.request
    monkeypatch.setattr(extension, "request", lambda: request() if ready else None)
    return ready


def test_watches_are_native_as_soon_as_they_can_be(late: list[bool]) -> None:
    assert isinstance(watch_tensors([torch.zeros(3)], content=True), InterimTensorWatch)
    assert isinstance(watch_dicts([{}]), InterimDictWatch)
    late.append(True)
    assert not isinstance(watch_tensors([torch.zeros(3)], content=True), InterimTensorWatch)
    assert not isinstance(watch_dicts([{}]), InterimDictWatch)


def test_tensors(late: list[bool]) -> None:
    tensors = [torch.zeros(3), torch.ones(2)]
    watch = InterimTensorWatch(tensors, content=True, compare_bytes=True)
    assert watch.changed(tensors) == []
    assert isinstance(watch._watch, PythonTensorWatch)
    late.append(True)
    tensors[1].data.mul_(2)
    assert watch.changed(tensors) == [1]
    tensors[1].data.div_(2)
    assert watch.changed(tensors) == []
    assert not isinstance(watch._watch, PythonTensorWatch)
    tensors[0].add_(1)
    assert watch.changed(tensors) == [0]


def test_dicts(late: list[bool]) -> None:
    entries = {"a": object()}
    watch = InterimDictWatch([entries])
    assert not watch.changed()
    assert isinstance(watch._watch, PythonDictWatch)
    late.append(True)
    assert not watch.changed()
    assert not isinstance(watch._watch, PythonDictWatch)
    entries["a"] = object()
    assert watch.changed()


def test_a_write_while_the_native_watch_is_made_is_not_missed(
    late: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the question and the record of the native watch, which holds the new content, somebody writes."""
    tensors, entries = [torch.zeros(3)], {"a": object()}
    of_tensors, of_dicts = InterimTensorWatch(tensors, content=True, compare_bytes=True), InterimDictWatch([entries])
    late.append(True)
    request = extension.request

    def while_it_writes(write: Callable[[], object]) -> None:
        monkeypatch.setattr(extension, "request", lambda: (write(), request())[1])

    while_it_writes(lambda: tensors[0].add_(1))
    assert of_tensors.changed(tensors) == [0]
    while_it_writes(lambda: entries.update(a=object()))
    assert of_dicts.changed()
    assert isinstance(of_tensors._watch, PythonTensorWatch)
    assert isinstance(of_dicts._watch, PythonDictWatch)
