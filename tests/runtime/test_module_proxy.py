"""The wrapper is the module: attributes, extra state and submodules are those of the original."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import tzwc
from tests.support.compiled_testing import compiled
from tests.support.faithful import X, pair
from tzwc.runtime.compiled_module import CompiledModule
from tzwc.runtime.submodules import Submodules


class _Extra(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(6, 3).double()
        self.epoch = 3

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.inner(x)
        return result

    def get_extra_state(self) -> Any:
        return {"epoch": self.epoch}

    def set_extra_state(self, state: Any) -> None:
        self.epoch = state["epoch"]


def test_extra_state_and_submodules() -> None:
    fast, other = compiled(_Extra()), compiled(_Extra())
    fast.epoch = 7
    assert fast.get_extra_state() == {"epoch": 7}
    other.load_state_dict(fast.state_dict())
    assert other.original.epoch == 7
    other.set_extra_state({"epoch": 8})
    assert other.epoch == 8
    assert fast.get_submodule("inner") is fast.original.inner
    assert torch.equal(fast(X), other(X))


def test_an_attribute_that_is_deleted_is_gone() -> None:
    fast, model = pair(lambda m, x: x * (m.factor if hasattr(m, "factor") else m.weight), factor=3)
    assert torch.equal(fast(X), model(X))
    for module in (fast, model):
        del module.factor
    assert not hasattr(fast.original, "factor")
    assert torch.equal(fast(X), model(X))


def test_before_there_is_an_original_there_are_no_attributes() -> None:
    with pytest.raises(AttributeError, match="anything"):
        _ = CompiledModule.__new__(CompiledModule).anything


def test_a_stage_that_does_not_exist() -> None:
    fast = tzwc.compile(nn.Linear(6, 3).double(), backend="eager", passes=["cse"])
    with pytest.raises(tzwc.InvalidArgumentError, match="name='cse': no such stage; call the module once"):
        fast.stage("cse")
    fast(X)
    assert fast.stage("cse").name == "cse"
    with pytest.raises(
        tzwc.InvalidArgumentError, match=r"name='csee': no such stage; choose one of \['capture', 'cse'\]"
    ):
        fast.stage("csee")


def test_export_sees_the_original() -> None:
    fast, model = pair(lambda m, x: (x * m.weight).exp())
    exported = torch.export.export(fast, (X,), strict=False)
    assert torch.equal(exported.module()(X), model(X))
    assert fast.specialisations == []


def test_a_number_in_place_of_a_tensor_in_a_list() -> None:
    fast, model = pair(lambda m, x: x * m.weight * m.listed[0], listed=[torch.tensor(3.0, dtype=torch.float64)])
    for value in (torch.tensor(3.0, dtype=torch.float64), 3.0, 4.0, torch.tensor(5.0, dtype=torch.float64)):
        for module in (fast, model):
            module.listed[0] = value
        assert torch.equal(fast(X), model(X))


def test_two_diversions_of_one_submodule_do_not_meet() -> None:
    model = nn.Sequential(nn.ReLU(), nn.Tanh())
    first = Submodules(model, [(model[0], lambda x: x + 1)])
    second = Submodules(model, [(model[0], lambda x: x - 1), (model[1], lambda x: model[1](x) * 2)])
    assert torch.equal(first([X], {}), (X + 1).tanh())
    assert torch.equal(second([X], {}), (X - 1).tanh() * 2)
    assert torch.equal(model(X), X.relu().tanh())
