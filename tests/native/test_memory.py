"""Nothing is kept longer than it must, nothing is let go of too early."""

from __future__ import annotations

import gc
import resource
import sys
from collections import OrderedDict
from typing import Any

import pytest
import torch
from torch import nn

from tests.support.watch_twins import Twin


class _Gone:
    """Counts its destructions."""

    count = 0

    def __del__(self) -> None:
        _Gone.count += 1


def test_references_are_given_back(twin: Twin, dict_twin: Twin) -> None:
    key, value = object(), object()
    p, d = nn.Parameter(torch.ones(3)), OrderedDict({key: value, "b": value})
    objects: list[Any] = [p, d, key, value]
    before = [sys.getrefcount(o) for o in objects]
    for _ in range(5):
        watch, other = twin.tensors([p, p], compare_bytes=True), dict_twin.dicts([d, d])
        for _ in range(3):
            assert watch.changed([p, p]) == []
            assert not other.changed()
            for wrong in ([p, None], [p]):
                with pytest.raises((TypeError, ValueError)):
                    watch.changed(wrong)
        for make, first in ((twin.tensors, p), (dict_twin.dicts, d)):
            with pytest.raises(TypeError):
                make([first, None])
    del watch, other, make, first, wrong
    gc.collect()
    assert [sys.getrefcount(o) for o in objects] == before


def test_a_cycle_through_a_watch_is_collected(twin: Twin, dict_twin: Twin) -> None:
    for content in (True, False):
        d: dict[str, Any] = {}
        p = nn.Parameter(torch.ones(1))
        d["gone"], p.gone = _Gone(), _Gone()
        d["watch"], p.watch = dict_twin.dicts([d]), twin.tensors([p], content=content)
        d["again"], p.again = dict_twin.dicts([d]), p.watch
        _Gone.count = 0
        del d, p
        gc.collect()
        assert _Gone.count == 2


def test_layout_watches_do_not_keep_tensors(twin: Twin) -> None:
    p = nn.Parameter(torch.ones(1))
    p.gone = _Gone()
    watch = twin.tensors([p], content=False)
    _Gone.count = 0
    del p
    gc.collect()
    assert _Gone.count == 1
    assert watch.changed([nn.Parameter(torch.zeros(1))]) == []


def test_memory_does_not_grow(twin: Twin, dict_twin: Twin) -> None:
    tensors, dicts = [torch.ones(100_000), torch.ones(300, 300).T], [{str(i): object() for i in range(100)}]

    def turn() -> None:
        watch, other = twin.tensors(tensors, compare_bytes=True), dict_twin.dicts(dicts)
        tensors[0].data[0] += 1
        assert watch.changed(tensors) == [0]
        assert not other.changed()

    for _ in range(20):
        turn()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(200):  # 150 MB, were the copies kept
        turn()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 30_000  # KiB
