"""Which tensors of a module become inputs of its graph, and under which names."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch
from torch import Tensor

import tzwc
from tzwc.tracing.capture import capture
from tzwc.tracing.graph_inputs import SlotTable, placeholder_name


class _Holder:
    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor


class _Hanging(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(2))
        self.register_parameter("none", None)
        self.register_buffer("missing", None)
        self.register_buffer("scale", torch.full((2,), 2.0))
        self.plain = torch.full((2,), 3.0)
        self.listed = [[torch.full((2,), 4.0)]]
        self.named = {"a b": torch.full((2,), 5.0)}
        self.object = _Holder(torch.full((2,), 6.0))
        self.inner = torch.nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        here = self.weight * self.scale * self.plain * self.listed[0][0] * self.named["a b"] * self.object.tensor
        return self.inner(x) * here * _CONSTANT


_CONSTANT = torch.full((2,), 7.0)


def test_every_tensor_is_read_from_where_it_hangs() -> None:
    model = _Hanging()
    slots = {slot.path: slot for slot in capture(model, torch.ones(1, 2)).slots}
    kinds = {path: slot.kind for path, slot in slots.items() if slot.kind != "constant"}
    assert kinds == {
        **dict.fromkeys(("weight", "inner.weight", "inner.bias"), "parameter"),
        "scale": "buffer",
        **dict.fromkeys(("plain", "listed[0][0]", "named['a b']", "object.tensor"), "attribute"),
    }
    names = {path: slot.name for path, slot in slots.items()}
    assert (names["weight"], names["scale"], names["named['a b']"]) == ("p_weight", "b_scale", "a_named_a_b")
    (constant,) = (slot for slot in slots.values() if slot.kind == "constant")
    assert constant.fetch() is _CONSTANT
    model.object.tensor = torch.zeros(2)
    assert slots["object.tensor"].fetch() is model.object.tensor


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("x.0", "x_0"),
        ("0", "input_0"),
        ("[]", "input_"),
        ("sum", "sum_argument"),
        ("self", "self_argument"),
        ("kept_0", "kept_0_argument"),
        ("kept_up", "kept_up"),
    ],
)
def test_names_are_those_of_arguments(text: str, name: str) -> None:
    assert placeholder_name(text) == name


class _Kept(torch.nn.Module):
    """Its input has the name of a kept value."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(8, 8, dtype=torch.float64))

    def forward(self, kept_0: Tensor) -> tuple[Tensor, Tensor]:
        static = self.weight @ self.weight
        return kept_0 @ static, static


def test_an_input_may_be_called_like_a_kept_value() -> None:
    model, x = _Kept().eval(), torch.randn(3, 8, dtype=torch.float64)
    fast = tzwc.compile(model, backend="eager")
    with torch.no_grad():
        for _ in range(2):
            found, expected = fast(x), model(x)
            assert all(map(torch.equal, found, expected))
            found[1].zero_()  # a copy of what is kept
    assert fast.level == "whole graph"


def test_a_tensor_that_is_replaced_while_the_module_is_traced_keeps_its_identity() -> None:
    module = _Hanging()
    table, held = SlotTable(module), weakref.ref(module.plain)
    del module.plain
    gc.collect()
    assert held() is not None
    assert id(held()) in table.identities()
