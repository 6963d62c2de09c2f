"""Forward, gradients of everything, and second derivatives, through any selection of passes, in training and not."""

from __future__ import annotations

import copy
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.properties.checks import NAMES, compiled, derivatives, eager_oracle, observe
from tests.properties.oracle import Oracle
from tests.properties.programs import Program, programs
from tests.support.examples import examples
from tzwc.ops.conv import all_algorithms

_SELECTIONS = st.lists(st.sampled_from(NAMES), unique=True).map(lambda chosen: sorted(chosen, key=NAMES.index))
_OPTIONS = st.fixed_dictionaries(
    {
        "passes": st.none() | _SELECTIONS,
        "convolution": st.sampled_from(["auto", *all_algorithms()]),
        "dynamic": st.sampled_from([True, False]),
        "cache_bytes": st.sampled_from([None, 0, 64]),
    }
)


@settings(max_examples=examples(34))
@given(programs(), _OPTIONS, st.booleans(), st.integers(0, 2))
def test_results_and_derivatives(program: Program, options: dict[str, Any], training: bool, order: int) -> None:
    model = program.build().train(training)
    tensors = program.tensors()
    oracle = eager_oracle(model, program, tensors, order)
    fast = compiled(model, **options)
    oracle.check(derivatives(fast, fast, program, tensors, order))


@settings(max_examples=examples(8))
@given(programs(random=False), st.integers(0, 1))
def test_single_precision_is_as_close_to_double_as_eager_may_be(program: Program, order: int) -> None:
    """The bound is that of float32's own roundings: what eager makes is inside of it as well."""
    model = program.build(torch.float32)
    tensors = program.tensors(dtype=torch.float32)
    exact = [tensor.double() for tensor in tensors]
    oracle = eager_oracle(program.build(torch.float32).double(), program, exact, order, epsilon=2.0**-23)
    fast = compiled(model)
    oracle.check(derivatives(fast, fast, program, tensors, order))


@settings(max_examples=examples(4))
@given(programs(random=False, writes=False), st.booleans(), st.lists(st.integers(1, 4), min_size=1, max_size=3))
def test_accumulated_gradients_are_the_sum_over_micro_batches(
    program: Program, training: bool, batches: list[int]
) -> None:
    model = program.build().train(training)
    fast = compiled(model)

    def gradients(call: nn.Module, around: AbstractContextManager[Any]) -> dict[str, Any]:
        call.zero_grad()
        with around:
            for batch in batches:
                results = observe(call, program, program.tensors(batch)).values()
                losses = [y.square().sum() for y in results if isinstance(y, Tensor) and y.requires_grad]
                if losses:
                    torch.stack(losses).sum().backward()
        return {name: p.grad if p.grad is None else p.grad.clone() for name, p in call.named_parameters()}

    def run() -> dict[str, Any]:
        return gradients(copy.deepcopy(model), nullcontext())

    eager_oracle(model, program, program.tensors(min(batches)), 1)
    oracle = Oracle(run)
    oracle.check(gradients(fast, fast.accumulate()))
