"""Random changes to a live model in random order, with calls in random modes in between: never a stale result.

The machine is run against the cache as it is, and against caches that each lack one component of the key: those it must
find out. ``check="version"`` is not asked to notice what its documentation says it does not.
"""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

import tzwc
import tzwc.partition.static_cache
import tzwc.runtime.module_guard
import tzwc.runtime.specialisation
from tests.support.cache_machine import Machine, VersionMachine, run
from tests.support.examples import examples
from tzwc.native import python_watch
from tzwc.native.python_watch import PythonTensorWatch


@pytest.mark.parametrize("machine", [Machine, VersionMachine])
def test_no_change_leaves_a_stale_result(machine: type[Machine]) -> None:
    run(machine, count=examples(4), steps=15)


def _without_version(tensor: Tensor) -> int:
    del tensor
    return 0


def _without_pointer(tensor: Tensor) -> int:
    del tensor
    return 0


def _without_layout(tensor: Tensor) -> tuple[object, ...]:
    del tensor
    return ()


def _without_bytes(tensor: Tensor) -> None:
    del tensor


def _without_hook(tensors: object) -> None:
    del tensors


def _in_python(tensors: list[Tensor], *, content: bool, compare_bytes: bool = False) -> PythonTensorWatch:
    return PythonTensorWatch(tensors, content, compare_bytes)


_identity = python_watch.Record.differs


def _without_identity(record: python_watch.Record, tensor: Tensor) -> bool:
    same_but_for_the_object = python_watch.Record(
        record.plain, record.layout, tensor, record.version, record.pointer, record.storage, record.bits
    )
    return _identity(same_but_for_the_object, tensor)


DISABLED: dict[str, tuple[type[Machine], object, str, object]] = {
    "version": (VersionMachine, python_watch, "version_of", _without_version),
    "pointer": (VersionMachine, python_watch, "pointer_of", _without_pointer),
    "layout": (VersionMachine, python_watch, "layout_of", _without_layout),
    "identity": (VersionMachine, python_watch.Record, "differs", _without_identity),
    "bytes": (Machine, python_watch, "raw_view", _without_bytes),
    "generation": (VersionMachine, tzwc.runtime.module_guard, "_generations", itertools.repeat(0)),
    "optimiser hook": (VersionMachine, torch.autograd.graph, "increment_version", _without_hook),
}


@pytest.mark.parametrize("component", DISABLED)
def test_without_any_one_component_a_stale_result_is_found(component: str, monkeypatch: pytest.MonkeyPatch) -> None:
    machine, owner, name, replacement = DISABLED[component]
    for user in (tzwc.partition.static_cache, tzwc.runtime.specialisation):
        monkeypatch.setattr(user, "watch_tensors", _in_python)
    monkeypatch.setattr(owner, name, replacement)
    with pytest.raises(AssertionError):
        run(machine, count=60, steps=25)
