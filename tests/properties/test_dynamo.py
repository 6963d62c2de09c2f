"""``torch.compile(backend="tzwc")`` and ``tzwc.compile`` agree with the module, and so with each other."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.properties.checks import compiled, derivatives, eager_oracle
from tests.properties.programs import Program, programs
from tests.support.dynamo_testing import through_dynamo
from tests.support.examples import examples


@pytest.fixture(autouse=True)
def _forgetful_dynamo() -> Iterator[None]:
    yield
    torch._dynamo.reset()


def agree(program: Program, training: bool, order: int, inner: str) -> None:
    model = program.build().train(training)
    tensors = program.tensors()
    oracle = eager_oracle(model, program, tensors, order)
    torch._dynamo.reset()
    own = copy.deepcopy(model)
    oracle.check(derivatives(through_dynamo(own, inner), own, program, tensors, order))
    fast = compiled(model, backend=inner)
    oracle.check(derivatives(fast, fast, program, tensors, order))
    assert not [r for s in fast.specialisations for r in s.remarks if r.kind == "declined"]


@settings(max_examples=examples(4))
@given(programs(random=False), st.booleans(), st.integers(0, 1), st.sampled_from(["eager", "aot_eager"]))
def test_both_ways_agree(program: Program, training: bool, order: int, inner: str) -> None:
    agree(program, training, order, inner)


@pytest.mark.inductor
@settings(max_examples=examples(2), suppress_health_check=[HealthCheck.too_slow])
@given(programs(random=False, min_statements=3), st.integers(0, 1))
def test_both_ways_agree_through_inductor(program: Program, order: int) -> None:
    agree(program, False, order, "inductor")
