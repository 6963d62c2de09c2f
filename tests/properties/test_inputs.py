"""Inputs of every dtype, layout, size and range of values, also after a call with others."""

from __future__ import annotations

from typing import Any

import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.properties.checks import compiled, eager_oracle, observe
from tests.properties.inputs import Input, inputs
from tests.properties.oracle import Oracle
from tests.properties.programs import Program, programs
from tests.support.examples import examples


@settings(max_examples=examples(16))
@given(programs(random=False, writes=False), inputs(), inputs(), st.booleans())
def test_any_input(program: Program, first: Input, second: Input, exact: bool) -> None:
    """Numbers are right wherever eager gives numbers; where eager gives none, neither does the compiled module.

    With ``exact``, since an FFT spreads what is no number over its channel.
    """
    # What is no number stays so only without transforms, as documented.
    exact = exact or not (first.finite and second.finite)
    second = Input(second.batch, second.layout, second.values, first.dtype)
    model = program.build(first.dtype)
    fast = compiled(model, exact=exact)
    for case in (first, second):
        tensors = [case.make(plain) for plain in program.tensors(case.batch)]
        wide = [tensor.double() for tensor in tensors]
        oracle = eager_oracle(program.build(first.dtype).double(), program, wide, epsilon=torch.finfo(case.dtype).eps)
        with torch.no_grad():
            try:
                expected = observe(model, program, tensors)
            except RuntimeError:  # some operators do without half precision
                assume(False)
            found = observe(fast, program, tensors)
        compare(oracle, found, expected)


def compare(oracle: Oracle, found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert list(found) == list(expected)
    for name, eager in expected.items():
        if not isinstance(eager, Tensor):
            assert found[name] == eager
            continue
        assert (found[name].shape, found[name].dtype) == (eager.shape, eager.dtype)
        if torch.equal(found[name], eager):
            continue
        # Overflow and underflow are the dtype's own: float64 has no say where eager reached them.
        assert torch.equal(found[name].isfinite(), eager.isfinite()), f"{name}: {found[name]}, not {eager}"
        if eager.isfinite().all() and oracle.unlike(name, eager) == "":
            problem = oracle.unlike(name, found[name])
            assert not problem, f"{name}: {problem}"
