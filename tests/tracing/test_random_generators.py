"""Random generators whose state forward reads, sets or draws from by itself: numbers and states are the module's."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

import tzwc

_python, _numpy, _torch = random.Random(0), np.random.default_rng(0), torch.Generator()


def _fork_seeded(x: Tensor) -> Tensor:
    with torch.random.fork_rng():
        torch.manual_seed(7)
        noise = torch.randn(3)
    return x + noise + torch.rand(3)


def _fork(x: Tensor) -> Tensor:
    with torch.random.fork_rng(devices=[]):
        x = functional.dropout(x, 0.5, True)
    return x + functional.dropout(x, 0.5, True)


def _again(x: Tensor) -> Tensor:
    state = torch.get_rng_state()
    first = torch.randn(3)
    torch.set_rng_state(state)
    return x + first * torch.randn(3) + torch.randn(3)


def _seed(x: Tensor) -> Tensor:
    torch.manual_seed(3)
    return x + torch.randn(3)


def _own(x: Tensor) -> Tensor:
    return x + torch.randn(3, generator=torch.Generator().manual_seed(5))


def _state_of_own(x: Tensor) -> Tensor:
    generator = torch.Generator()
    generator.set_state(torch.get_rng_state())
    return x + torch.rand(3, generator=generator)


def _quiet_fork(x: Tensor) -> Tensor:
    with torch.random.fork_rng(devices=[]):
        return x.sin()


DECLINED: dict[str, Callable[[Tensor], Any]] = {
    "forked and seeded": _fork_seeded,
    "forked": _fork,
    "put back": _again,
    "seeded": _seed,
    "own": _own,
    "global": lambda x: x + torch.randn(3, generator=_torch),
    "initial seed": lambda x: x + torch.initial_seed() % 7,
    "state": _state_of_own,
    "random": lambda x: x * random.random(),
    "random.Random": lambda x: x * _python.random(),
    "numpy.random": lambda x: x * np.random.rand(),
    "numpy.random.Generator": lambda x: x * _numpy.random(),
}
CAPTURED: dict[str, Callable[[Tensor], Any]] = {
    "dropout": lambda x: functional.dropout(x) + torch.rand(3),
    "checkpoint": lambda x: checkpoint(functional.dropout, x, use_reentrant=False),
    "a fork around nothing": _quiet_fork,
    "made and seeded in forward": lambda x: x * random.Random(3).random() + np.random.RandomState(0).rand(),
}


class _Module(nn.Module):
    def __init__(self, body: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Any:
        return self.body(x)


def _run(model: nn.Module, x: Tensor, seed: int) -> list[Any]:
    random.seed(seed)
    np.random.seed(seed)
    _python.seed(seed)
    torch.manual_seed(seed)
    _torch.manual_seed(seed)
    _numpy.bit_generator.state = np.random.default_rng(seed).bit_generator.state
    result = model(x)
    states = [random.getstate(), _python.getstate(), str(np.random.get_state()), str(_numpy.bit_generator.state)]
    return [result, torch.get_rng_state(), _torch.get_state(), *states]


@pytest.mark.parametrize("verify", [False, True])
@pytest.mark.parametrize("name", [*DECLINED, *CAPTURED])
def test_numbers_and_states_are_those_of_the_module(name: str, verify: bool) -> None:
    module = _Module({**DECLINED, **CAPTURED}[name])
    fast = tzwc.compile(module, backend="eager", verify=verify)
    for seed in range(3):
        x = torch.randn(4, 3)
        for a, b in zip(_run(fast, x, seed), _run(module, x, seed), strict=True):
            assert torch.equal(a, b) if isinstance(a, Tensor) else a == b
    if name in CAPTURED:
        assert fast.level == "whole graph"
    else:
        assert fast.level == "untouched"
        assert any("random" in remark.reason for remark in fast.remarks)
