"""Which graph serves a call, when another one is made, and when none is."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import tzwc
from tests.support.compiled_testing import compiled
from tests.support.faithful import Written, X, pair
from tzwc.runtime.dispatch import Dispatcher


def _reasons(fast: tzwc.CompiledModule) -> str:
    return "\n".join(map(str, fast.remarks))


def test_an_integer_that_is_set_to_the_same_value_settles() -> None:
    fast, model = pair(lambda m, x: (setattr(m, "phase", 5), x * m.weight)[1], phase=3)
    for _ in range(3):
        assert torch.equal(fast(X), model(X))
        assert fast.phase == 5
    assert fast.level == "whole graph"
    assert "one call ran as it was written: forward sets the integer 'phase'" in _reasons(fast)


def _reads_when_asked(module: Any, x: Tensor, reads: bool = True) -> Tensor:
    return x * module.weight if reads and module.state[0].item() > 0 else x + module.weight


def test_a_graph_that_is_of_no_use_any_more_makes_room() -> None:
    fast = compiled(Written(_reads_when_asked), max_specialisations=2)
    for reads in (False, True):
        assert torch.equal(fast(X, reads), fast.original(X, reads))
    always, _ = fast.specialisations
    for value in (1.0, -1.0, 1.0):
        fast.state.fill_(value)
        for reads in (True, False):
            assert torch.equal(fast(X, reads), fast.original(X, reads))
        assert len(fast.specialisations) == 2
        assert always in fast.specialisations
    assert "max_specialisations" not in _reasons(fast)


def test_no_more_graphs_than_allowed() -> None:
    fast, x = compiled(nn.Linear(6, 3).double(), max_specialisations=1), X.clone().requires_grad_()
    for argument in (X, x, X):
        assert torch.equal(fast(argument), fast.original(argument))
    assert len(fast.specialisations) == 1
    assert "the module runs as it was: more than max_specialisations=1 kinds of call" in _reasons(fast)


def test_a_line_that_reads_another_value_at_every_call() -> None:
    fast, model = pair(lambda m, x: (x * m.weight, [m.state[0].item()]))
    for value in range(11):
        for module in (fast, model):
            module.state.fill_(value)
        found, expected = fast(X), model(X)
        assert torch.equal(found[0], expected[0])
        assert found[1] == expected[1]
    assert fast.level == "untouched"
    assert "keeps reading other values" in _reasons(fast)


class _Crops(nn.Module):
    """Reads how many of its inputs it looks at."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(64, 3, dtype=torch.float64))
        self.end = nn.Parameter(torch.tensor(1.0))

    def forward(self, x: Tensor) -> Tensor:
        n = int(self.end.item())
        return x[:, :n] @ self.weight[:n]


def _crop(fast: tzwc.CompiledModule, end: int, batch: int = 2) -> None:
    fast.end.fill_(end)
    x = torch.randn(batch, 64, dtype=torch.float64)
    assert torch.equal(fast(x), fast.original(x))


@torch.no_grad()
def test_graphs_are_counted_and_not_the_kinds_of_call_that_they_serve() -> None:
    fast = compiled(_Crops())
    for end in range(1, 10):
        for batch in (2, 3, 4, 5):
            _crop(fast, end, batch)
            assert fast.level == "whole graph with assumptions"
    _crop(fast, 10)
    assert fast.level == "untouched"


@torch.no_grad()
def test_graphs_that_come_back_are_not_counted_again() -> None:
    fast = compiled(_Crops())
    for turn in range(60):
        _crop(fast, 1 + turn % 3)
    assert fast.level == "whole graph with assumptions"
    assert len(fast.specialisations) == 3
    assert len(fast.remarks) == 3


@torch.no_grad()
def test_another_graph_is_tried_after_a_pause_that_grows() -> None:
    fast, levels = compiled(_Crops()), []
    for call in range(200):
        _crop(fast, 1 + call % 64)
        levels.append(fast.level == "untouched")
    # Nine graphs, a pause of 32 calls, a graph that becomes useless at once, a pause of 64, and so on.
    assert [call for call in range(200) if not levels[call]] == [*range(9), 9 + 32, 9 + 32 + 1 + 64]
    assert [r.reason.rpartition("; ")[2] for r in fast.remarks if r.kind == "declined"] == [
        f"another graph is tried after {calls} calls" for calls in (32, 64, 128)
    ]


@torch.no_grad()
def test_a_pause_ends_for_good_when_values_stay() -> None:
    fast = compiled(_Crops())
    for end in range(1, 11):
        _crop(fast, end)
    for _ in range(32 + 20):
        _crop(fast, 10)
    assert fast.level == "whole graph with assumptions"
    _crop(fast, 11)  # the graph before has served
    assert fast.level == "whole graph with assumptions"


@torch.no_grad()
def test_a_pause_holds_for_other_sizes_too() -> None:
    fast = compiled(_Crops())
    for end in range(1, 11):
        _crop(fast, end)
    graphs = len(fast.specialisations)
    for batch in range(3, 20):
        _crop(fast, 11, batch)
    assert len(fast.specialisations) == graphs


@torch.no_grad()
def test_layers_that_share_a_line_are_counted_apart() -> None:
    layers = [_Crops() for _ in range(4)]
    for layer in layers[:3]:
        layer.weight = nn.Parameter(torch.ones(64, 64, dtype=torch.float64))
    fast = compiled(nn.Sequential(*layers), max_specialisations=64)
    x = torch.randn(2, 64, dtype=torch.float64)
    for turn in range(32):
        layers[turn % 4].end.fill_(2 + turn // 4)
        assert torch.equal(fast(x), fast.original(x))
        assert fast.level == "whole graph with assumptions"
    assert "(in 3)" in _reasons(fast)


def test_what_another_thread_has_learnt_meanwhile_is_not_learnt_again(monkeypatch: pytest.MonkeyPatch) -> None:
    learn = Dispatcher.learn

    def twice(*arguments: Any) -> bool:
        return learn(*arguments) and learn(*arguments)

    monkeypatch.setattr(Dispatcher, "learn", twice)
    fast = compiled(nn.Linear(6, 3).double())
    assert torch.equal(fast(X), fast.original(X))
    assert len(fast.specialisations) == 1


def test_parameters_that_another_thread_replaces_after_every_capture(monkeypatch: pytest.MonkeyPatch) -> None:
    fast, learn = compiled(nn.Linear(6, 3, bias=False).double()), Dispatcher.learn

    def learn_and_replace(*arguments: Any) -> bool:
        learnt = learn(*arguments)
        fast.weight = nn.Parameter(torch.cat([fast.weight.detach(), X[:1]]))
        return learnt

    monkeypatch.setattr(Dispatcher, "learn", learn_and_replace)
    assert torch.equal(fast(X), fast.original(X))
    assert "the module runs as it was: parameters or attributes keep changing between calls" in _reasons(fast)
    monkeypatch.undo()
    assert torch.equal(fast(X), fast.original(X))
    assert fast.level == "whole graph"


class _Remembers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(6, 3, dtype=torch.float64))
        self.flag = False
        self.listed = [torch.zeros(())]
        self.stored = {"y": torch.zeros(()), "kind": 1}

    def forward(self, x: Tensor, remember: bool = False) -> Tensor:
        y = x @ self.weight
        if remember:
            self.listed[0] = y
        if self.flag:
            self.stored["y"] = y
        return y


def test_a_new_guard_is_not_taken_for_the_one_before_it() -> None:
    fast = compiled(_Remembers())
    with torch.no_grad():
        fast(X)
        for value in (2.0, 3.0, 4.0):
            fast.weight = nn.Parameter(torch.full_like(fast.weight, value))
            fast(X, remember=value != 2.0)  # the first of these makes the guard anew
        assert torch.equal(fast(X), fast.original(X))


def test_what_one_state_sets_changes_nothing_for_the_others() -> None:
    fast = compiled(_Remembers())
    with torch.no_grad():
        for turn in range(6):
            fast.flag = bool(turn % 2)
            assert torch.equal(fast(X), fast.original(X))
    assert len(fast.specialisations) == 2


def test_what_graphs_have_set_is_forgotten_with_them() -> None:
    fast = compiled(_Remembers())
    with torch.no_grad():
        for _ in range(3):
            fast(X, remember=True)
        held = weakref.ref(fast.listed[0])
        fast.listed = [torch.zeros(())]
        fast.invalidate(graphs=True)
        gc.collect()
        assert held() is None
        assert torch.equal(fast(X), fast.original(X))
