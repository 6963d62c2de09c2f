"""Random histories of tensors: both implementations give the same answers, and neither misses a change."""

from __future__ import annotations

from typing import Any

import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from torch import Tensor, nn

from tests.support.examples import examples
from tests.support.watch_twins import Twin

SHAPES = [(), (3,), (2, 3), (0, 2), (2, 1, 3)]
DTYPES = [torch.float32, torch.float64, torch.complex64, torch.bfloat16]
SLOTS = 3
slots = st.integers(0, SLOTS - 1)


# Hypothesis keeps weak references to what it has drawn, which swap_tensors refuses: rules work with copies.
@st.composite
def tensors(draw: st.DrawFn) -> Tensor:
    shape, dtype = draw(st.sampled_from(SHAPES)), draw(st.sampled_from(DTYPES))
    tensor = torch.full(shape, draw(st.sampled_from([0.0, -0.0, 1.0, float("nan")])), dtype=dtype)
    return tensor.T if len(shape) == 2 and draw(st.booleans()) else tensor


def snapshot(tensor: Tensor, content: bool) -> tuple[object, ...]:
    """What a change must show in, taken in a way that has nothing in common with the watches."""
    values = torch.view_as_real(tensor.detach().resolve_conj()) if tensor.is_complex() else tensor.detach()
    layout = (tensor.size(), tensor.stride(), tensor.dtype, tensor.requires_grad)
    return (*layout, str(values.contiguous().flatten().view(torch.uint8).tolist())) if content else layout


class Histories(RuleBasedStateMachine):
    """Some tensors, their watches in every mode, and everything that people do to parameters."""

    module: Any = None

    def __init__(self) -> None:
        super().__init__()
        self.tensors: list[Tensor] = [nn.Parameter(torch.ones(2, 3)) for _ in range(SLOTS)]
        self.kept: list[Tensor] = []
        self.watch()

    @rule()
    def watch(self) -> None:
        modes = [(content, compare) for content in (False, True) for compare in (False, True)]
        self.watches = [
            (c, b, Twin().tensors(self.tensors, c, b), Twin(self.module).tensors(self.tensors, c, b)) for c, b in modes
        ]
        self.objects = list(self.tensors)
        self.before = [[snapshot(t, bytes_too) for t in self.tensors] for bytes_too in (False, True)]

    @rule(i=slots, value=st.sampled_from([0.0, 1.0, -1.0]))
    def in_place(self, i: int, value: float) -> None:
        with torch.no_grad():
            self.tensors[i].mul_(value)

    @rule(i=slots, value=st.sampled_from([0.0, 1.0, -1.0]))
    def data_in_place(self, i: int, value: float) -> None:
        self.tensors[i].data.mul_(value)

    @rule(i=slots, new=tensors())
    def assign_data(self, i: int, new: Tensor) -> None:
        self.kept.append(self.tensors[i].data)
        self.tensors[i].data = new

    @rule(i=slots, data=st.data())
    def put_back(self, i: int, data: st.DataObject) -> None:
        if self.kept:
            self.tensors[i].data = data.draw(st.sampled_from(self.kept))

    @rule(i=slots)
    def copy(self, i: int) -> None:
        with torch.no_grad():
            self.tensors[i].copy_(torch.ones_like(self.tensors[i]))

    @rule(i=slots, wanted=st.booleans())
    def requires_grad(self, i: int, wanted: bool) -> None:
        self.tensors[i].requires_grad_(wanted)

    @rule(i=slots, shape=st.sampled_from(SHAPES))
    def resize(self, i: int, shape: tuple[int, ...]) -> None:
        if not self.tensors[i].requires_grad:
            self.tensors[i].resize_(shape)
            self.tensors[i].data.fill_(1)  # what is behind the old end is undefined

    @rule(i=slots, new=tensors())
    def set_storage(self, i: int, new: Tensor) -> None:
        if new.dtype == self.tensors[i].dtype:
            with torch.no_grad():
                self.tensors[i].set_(new)

    @rule(i=slots, new=tensors(), as_parameter=st.booleans())
    def replace(self, i: int, new: Tensor, as_parameter: bool) -> None:
        self.tensors[i] = nn.Parameter(new) if as_parameter else new.clone()

    @rule(i=slots, j=slots)
    def exchange(self, i: int, j: int) -> None:
        self.tensors[i], self.tensors[j] = self.tensors[j], self.tensors[i]

    @rule(i=slots, new=tensors())
    def swap(self, i: int, new: Tensor) -> None:
        torch.utils.swap_tensors(self.tensors[i], new.clone())

    @rule(i=slots, value=st.sampled_from([0.0, -0.0, 2.0]))
    def write_through_numpy(self, i: int, value: float) -> None:
        if self.tensors[i].dtype is not torch.bfloat16:
            self.tensors[i].detach().numpy()[...] = value

    @invariant()
    def both_agree_and_miss_nothing(self) -> None:
        for content, compare_bytes, python, native in self.watches:
            found = python.changed(self.tensors)
            assert native.changed(self.tensors) == found
            for i, tensor in enumerate(self.tensors):
                if snapshot(tensor, compare_bytes) != self.before[compare_bytes][i]:
                    assert i in found
                if content and tensor is not self.objects[i]:
                    assert i in found
                if not content and i in found:
                    assert snapshot(tensor, compare_bytes) != self.before[compare_bytes][i]


def test_random_histories(native: Twin) -> None:
    Histories.module = native.module
    run_state_machine_as_test(Histories, settings=settings(max_examples=examples(60), stateful_step_count=20))
