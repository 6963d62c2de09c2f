"""When compiled code must stand back, and what about a module is looked at before every call."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from tests.support.faithful import Written, X, pair
from tzwc.runtime.module_guard import ModuleGuard, WrittenEntries


class _Halves(TorchFunctionMode):
    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        return 0.5 * result if function is Tensor.mul else result


class _Doubles(TorchDispatchMode):
    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        return result + result if function is torch.ops.aten.mul.Tensor else result


@contextmanager
def _global_hook() -> Iterator[None]:
    handle = nn.modules.module.register_module_forward_hook(
        lambda module, _, result: 3 * result if isinstance(module, Written) else None
    )
    try:
        yield
    finally:
        handle.remove()


class _Subclass(Tensor):
    pass


@pytest.mark.parametrize(
    ("around", "reason"),
    [
        (_Halves, "under a function mode"),
        (_Doubles, "under a dispatch mode"),
        (torch.autograd.forward_ad.dual_level, "under forward-mode differentiation"),
        (_global_hook, "hooks on all modules are registered"),
    ],
)
def test_the_module_itself_runs(around: Callable[[], Any], reason: str) -> None:
    fast, model = pair(lambda m, x: x * m.weight)
    assert torch.equal(fast(X), model(X))
    with around():
        assert torch.equal(fast(X), model(X))
        assert fast.level == "whole graph"
    assert [remark.reason for remark in fast.remarks] == [f"the module runs as it was: {reason}"]
    assert torch.equal(fast(X), model(X))
    assert len(fast.specialisations) == 1


def test_tangents_of_forward_mode_go_through() -> None:
    fast, model = pair(lambda m, x: (x * m.weight).exp())
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(X, torch.ones_like(X))
        (_, found), (_, expected) = (torch.autograd.forward_ad.unpack_dual(m(dual)) for m in (fast, model))
    assert torch.equal(found, expected)


def test_a_subclass_as_an_argument_runs_the_module_itself() -> None:
    fast, model = pair(lambda m, x: x * m.weight)
    x = X.as_subclass(_Subclass)
    assert type(fast(x)) is _Subclass
    assert torch.equal(fast(x), model(x))
    assert [remark.reason for remark in fast.remarks] == ["the module runs as it was: an argument is a _Subclass"]


def test_default_devices_are_no_reason_to_stand_back() -> None:
    fast, model = pair(lambda m, x: x * m.weight + torch.ones(6))
    with torch.device("cpu"):
        assert torch.equal(fast(X), model(X))
    assert fast.remarks == []


def test_tensors_in_a_dictionary_may_be_replaced() -> None:
    fast, model = pair(lambda m, x: x * m.named["scale"] * m.named["factor"], named={"scale": X[0], "factor": 2})
    for scale, factor, graphs in ((X[0], 2, 1), (X[1], 2, 1), (X[1], 3, 2)):
        for module in (fast, model):
            module.named.update(scale=scale, factor=factor)
        assert torch.equal(fast(X), model(X))
        assert len(fast.specialisations) == graphs


def test_writes_of_a_module_that_has_none() -> None:
    module = nn.Linear(2, 2)
    guard = ModuleGuard(module)
    before = guard.generation
    guard.accept_written()
    assert guard.holds()
    assert guard.generation == before
    module.extra = 1  # type: ignore[assignment]
    assert not guard.holds()


def test_no_two_guards_have_a_generation_in_common() -> None:
    module = nn.Linear(2, 2)
    guards = [ModuleGuard(module), ModuleGuard(module)]
    seen = {guard.generation for guard in guards}
    for _ in range(3):
        module.weight = nn.Parameter(torch.ones(2, 2))
        assert all(guard.holds() for guard in guards)
        seen |= {guard.generation for guard in guards}
    assert len(seen) == 8


def test_what_somebody_else_sets_while_a_call_runs_is_noticed() -> None:
    module = nn.Linear(2, 2)
    module.last, module.scale = torch.ones(2), 1.0  # type: ignore[assignment]
    guard = ModuleGuard(module, WrittenEntries([(module.__dict__, "last")]))
    module.last = torch.zeros(2)
    guard.accept_written()
    assert guard.holds()
    module.last, module.scale = torch.ones(2), 2.0  # type: ignore[assignment]
    guard.accept_written()
    assert not guard.holds()


def test_written_entries_keep_their_containers_alive() -> None:
    """Another dictionary could get the identity of one that is gone, and would not be looked at."""

    class Container(dict[str, int]):
        pass

    container = Container(a=1)
    alive = weakref.ref(container)
    written = WrittenEntries([(container, "a")])
    del container
    gc.collect()
    assert alive() is not None
    assert written.of(alive()) == {"a"}
    assert written.of(Container(a=1)) == frozenset()


class _Incomparable:
    def __eq__(self, other: object) -> bool:
        raise ValueError("compare the parts instead")

    __hash__ = None  # type: ignore[assignment]


def test_what_cannot_be_compared_has_changed() -> None:
    fast, model = pair(lambda m, x: x * m.weight, held=[_Incomparable()])
    assert torch.equal(fast(X), model(X))
    fast.held[0] = _Incomparable()
    assert torch.equal(fast(X), model(X))
    assert len(fast.specialisations) == 2
