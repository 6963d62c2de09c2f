"""Calls in two threads while a third one changes parameters: the old result or the new one, never a mixture."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import tzwc
from tests.support.programs import HyperConv, example
from tzwc.runtime.compiled_module import CompiledModule
from tzwc.util.rwlock import Gate

SWITCHES = 60


@pytest.fixture(autouse=True)
def _switch_often() -> object:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(interval)


def _load(fast: CompiledModule, state: dict[str, Tensor]) -> None:
    fast.load_state_dict(state)


def _assign(fast: CompiledModule, state: dict[str, Tensor]) -> None:
    fast.load_state_dict({k: v.clone() for k, v in state.items()}, assign=True)


def _one_by_one(fast: CompiledModule, state: dict[str, Tensor]) -> None:
    with fast.updating(), torch.no_grad():
        for name, parameter in fast.named_parameters():
            parameter.copy_(state[name])


@pytest.mark.parametrize("change", [_load, _assign, _one_by_one])
def test_old_or_new_never_a_mixture(change: Callable[[CompiledModule, dict[str, Tensor]], None]) -> None:
    torch.manual_seed(0)
    fast = tzwc.compile(HyperConv().double().eval(), backend="eager")
    states = [{k: f * v for k, v in fast.state_dict().items()} for f in (1.0, -2.0)]
    x, allowed = example(), []
    with torch.no_grad():
        for state in states:
            fast.load_state_dict(state)
            allowed.append(fast(x))
    done, wrong = threading.Event(), []

    def call() -> None:
        try:
            with torch.no_grad():
                while not done.is_set():
                    y = fast(x)
                    if not any(torch.allclose(y, a, rtol=1e-9, atol=1e-12) for a in allowed):
                        wrong.append(y)
        except Exception as error:
            wrong.append(error)

    callers = [threading.Thread(target=call) for _ in range(2)]
    for caller in callers:
        caller.start()
    for n in range(SWITCHES):
        change(fast, states[n % 2])
    done.set()
    for caller in callers:
        caller.join(timeout=300)
    assert not wrong
    assert not any(caller.is_alive() for caller in callers)


def test_a_reader_that_wants_to_write_is_told() -> None:
    gate = Gate()
    with gate.reading(), gate.reading(), pytest.raises(RuntimeError, match="within a call"), gate.writing():
        pass
    with gate.writing(), gate.writing(), gate.reading():
        pass
    with gate.writing():
        pass
