"""After a capture, however it ends and in however many threads, nothing is patched any more."""

from __future__ import annotations

import builtins
import logging
import random
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import tzwc
from tzwc.dynamo import retrace
from tzwc.tracing.patches import patching

_NAMESPACES: tuple[Any, ...] = (
    Tensor, torch.autograd, torch.autocast, torch.SymInt, torch.SymFloat, torch.SymBool, builtins, logging.Logger,
    random, np.random, torch._C.ScriptFunction, torch._functorch.utils, nn.Module,
)  # fmt: skip


def _ours() -> list[str]:
    """Attributes that are functions or properties of tzwc's now."""
    return [
        f"{owner}.{name}"
        for owner in (*_NAMESPACES, sys.stdout)
        for name, value in list(vars(owner).items())
        if str(getattr(getattr(value, "fget", value), "__module__", "")).startswith("tzwc")
    ]


def _watched() -> list[Any]:
    """Attributes that a capture exchanges, as they are now."""
    return [vars(owner).get(name) for owner, name in _EXCHANGED]


_EXCHANGED = [
    (Tensor, "item"), (Tensor, "tolist"), (Tensor, "data"), (Tensor, "grad"), (Tensor, "requires_grad"),
    (Tensor, "backward"), (Tensor, "__repr__"), (torch.autograd, "grad"), (torch.autograd, "backward"),
    (builtins, "print"), (logging.Logger, "handle"), (random, "random"), (np.random, "rand"),
    (torch.SymInt, "__repr__"), (torch._functorch.utils, "unwrap_dead_wrappers"),
]  # fmt: skip


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    before = _watched()
    yield
    assert _ours() == []
    assert all(now is was for now, was in zip(_watched(), before, strict=True))


class Program(nn.Module):
    def __init__(self, body: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))
        self.calls = 0
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        return self.body(self, x)


def _raises(error: type[BaseException]) -> Callable[[Any, Tensor], Tensor]:
    def body(_module: Any, _x: Tensor) -> Tensor:
        raise error("of the program")

    return body


def _counts(module: Any, x: Tensor) -> Tensor:
    module.calls += 1
    return x * module.calls


@pytest.mark.parametrize(
    "body",
    [
        lambda m, x: x * m.weight,
        lambda _, x: x if x.sum() > 0 else -x,
        lambda _, x: x * random.random(),
        lambda m, x: x * m.weight[0].item(),
        _counts,
        _raises(ValueError),
        _raises(KeyboardInterrupt),
        _raises(SystemExit),
        _raises(GeneratorExit),
    ],
)
def test_however_a_capture_ends(body: Callable[[Any, Tensor], Tensor]) -> None:
    with suppress(tzwc.CaptureError, ValueError, KeyboardInterrupt, SystemExit, GeneratorExit):
        tzwc.capture(Program(body), torch.ones(3))


@pytest.mark.parametrize("first", ["capture", "retrace"])
def test_a_capture_and_a_retrace_in_two_threads(first: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that comes second waits until the first one has put everything back."""
    inside, second_is_there, errors = threading.Event(), threading.Event(), []
    order: list[str] = []
    run_node = retrace.Runner.run_node

    def enter(who: str) -> None:
        if who == first and who not in order:
            inside.set()
            second_is_there.wait(30)
        if who not in order:
            order.append(who)

    def node(self: Any, n: Any) -> Any:
        enter("retrace")
        return run_node(self, n)

    monkeypatch.setattr(retrace.Runner, "run_node", node)

    def captures(_: Any, x: Tensor) -> Tensor:
        enter("capture")
        return x + 1

    def capture() -> None:
        tzwc.capture(Program(captures), torch.ones(3))

    def compile_with_dynamo() -> None:
        with torch.no_grad():
            module = Program(lambda m, x: x * m.weight)
            torch.compile(module, backend="tzwc", options={"backend": lambda graph, _: graph})(torch.ones(3))

    def guarded(job: Callable[[], None]) -> None:
        try:
            job()
        except Exception as error:  # it is compared below
            errors.append(error)

    jobs = [capture, compile_with_dynamo] if first == "capture" else [compile_with_dynamo, capture]
    threads = [threading.Thread(target=guarded, args=(job,)) for job in jobs]
    threads[0].start()
    assert inside.wait(30)
    threads[1].start()
    second_is_there.set()
    for thread in threads:
        thread.join(60)
    assert not errors
    assert order[0] == first


def test_what_a_comparison_collects_is_one_threads() -> None:
    """Held by another thread, the lock keeps a comparison from exchanging ``print``."""
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with patching:
            held.set()
            done.wait(30)

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(30)
    fast = tzwc.compile(Program(lambda m, x: x * m.weight), backend="eager")
    caller = threading.Thread(target=fast, args=(torch.ones(3),))
    caller.start()
    assert "print" not in repr(builtins.print).replace("built-in function print", "")
    done.set()
    thread.join(30)
    caller.join(60)
    assert fast.level == "whole graph"
