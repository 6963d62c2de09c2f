"""The generators and the oracle themselves: every statement is a program, printed as one, and errors are noticed."""

from __future__ import annotations

import copy
import inspect
import itertools

import pytest
import torch
from hypothesis import given, settings
from torch import Tensor, nn

from tests.properties.checks import derivatives, eager_oracle, observe
from tests.properties.draft import Draft, Statement, Value
from tests.properties.layers import LAYERS
from tests.properties.oracle import Oracle
from tests.properties.programs import Program, programs
from tests.properties.surroundings import SURROUNDINGS
from tests.support.examples import examples


@pytest.mark.parametrize("statement", [*LAYERS, *SURROUNDINGS], ids=lambda s: s.__name__)
def test_every_choice_of_a_statement_runs(statement: Statement) -> None:
    written = set()
    for shape, first, second in itertools.product([(3, 6), (2, 4, 4), (4,)], range(12), range(12)):
        draft = Draft([Value("x", shape, owned=False)])
        draft.bind("1.5 * x", shape)
        draft.begin([0, first, second, second // 2, first // 2])
        statement(draft)
        result = f"({', '.join(value.name for value in draft.unread())},)"
        program = Program(tuple(draft.members), tuple(draft.lines), result, (("x", shape),))
        if repr(program) in written:
            continue
        written.add(repr(program))
        shapes = [value.shape for value in draft.unread()]
        batched = [value.batched for value in draft.unread()]
        outputs = program.build()(*program.arguments(program.tensors()))
        assert [tuple(y.shape[b:]) for y, b in zip(outputs, batched, strict=True)] == shapes, program
    assert len(written) >= 4, written


@settings(max_examples=examples(10))
@given(programs())
def test_a_printed_program_runs(program: Program) -> None:
    namespace: dict[str, object] = {}
    exec(repr(program), namespace)
    torch.manual_seed(0)
    drawn, arguments = namespace["Drawn"], namespace["arguments"]
    assert callable(drawn)
    assert callable(arguments)
    drawn().eval()(*arguments(3))
    assert "return" in inspect.getsource(type(program.build()).forward)


@settings(max_examples=examples(4))
@given(programs(random=False, max_statements=5))
def test_eager_is_within_its_own_bound_and_errors_are_not(program: Program) -> None:
    """float32 eager is as far from float64 as the oracle admits; a hundred-thousandth of the result more is not."""
    double, single = program.build(torch.float32).double(), program.build(torch.float32)
    tensors = program.tensors(dtype=torch.float32)
    oracle = eager_oracle(double, program, [t.double() for t in tensors], 1, epsilon=torch.finfo(torch.float32).eps)
    oracle.check(derivatives(single, single, program, tensors, 1))
    strict = eager_oracle(double, program, [t.double() for t in tensors], 1)
    for name, value in strict.exact.items():
        if isinstance(value, Tensor) and value.is_floating_point() and value.numel() and value.abs().max() > 0:
            assert strict.unlike(name, value * (1 + 1e-5))
            assert not strict.unlike(name, value)


def test_the_bound_follows_the_condition_of_a_program() -> None:
    """Without a fixed tolerance: a small deviation magnifies what a sum does not."""
    x = torch.tensor([[1.0, 1.0 + 1e-6]], dtype=torch.float64)
    flat = Oracle(lambda: {"y": x.sum(-1)}).bound("y")
    steep = Oracle(lambda: {"y": (x - x.mean(-1, keepdim=True)) / x.std(-1, keepdim=True)}).bound("y")
    assert 1e-16 < flat < 1e-14
    assert 1e-11 < steep < 1e-8


def test_shape_type_and_structure_count() -> None:
    program = Program((), ("v0 = x * 2",), "(v0, None)", (("x", (3,)),))
    model: nn.Module = program.build()
    oracle = eager_oracle(model, program, program.tensors())
    right = observe(model, program, program.tensors())
    oracle.check(copy.copy(right))
    for wrong in ({"structure": "other"}, {"result 0": right["result 0"][:2]}, {"result 1": 0}):
        assert oracle.difference({**right, **wrong})
    assert oracle.difference({"structure": right["structure"]})
