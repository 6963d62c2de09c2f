"""A few equivalences through Inductor and its C++ compiler; all others are checked with quicker backends."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import tzwc
from tests.support.blocks import one_block
from tests.support.programs import HyperConv, WithBuffers, example
from tzwc.models import Terminator

pytestmark = pytest.mark.inductor


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10 * max(1.0, expected.detach().abs().max().item()))


def test_evaluation_at_many_batch_sizes_and_after_a_change() -> None:
    torch.manual_seed(0)
    fast = tzwc.compile(HyperConv().double().eval(), static_sizes=1)
    with torch.no_grad():
        for batch in (5, 3, 7, 5):  # the first in code of its own, the others in one code for all sizes
            close(fast(example(batch)), fast.original(example(batch)))
        fast.slow[0].weight.mul_(2)
        close(fast(example()), fast.original(example()))
        strided = example(16, length=6).transpose(0, 2)
        close(fast(strided), fast.original(strided))
    assert all(not s.remarks for s in fast.specialisations)


def test_training_and_accumulation() -> None:
    torch.manual_seed(0)
    fast = tzwc.compile(HyperConv().double())
    x = example().requires_grad_()
    leaves = [x, *fast.parameters()]
    found = torch.autograd.grad(fast(x).square().sum(), leaves)
    expected = torch.autograd.grad(fast.original(x).square().sum(), leaves)
    for a, b in zip(found, expected, strict=True):
        close(a, b)
    with fast.accumulate():
        fast(x).square().sum().backward()
    for p, b in zip(fast.parameters(), expected[1:], strict=True):
        assert p.grad is not None
        close(p.grad, b)
    assert all(not s.remarks for s in fast.specialisations)


def test_dropout_drops_what_eager_drops() -> None:
    torch.manual_seed(0)
    eager, model = WithBuffers().double(), WithBuffers().double()
    model.load_state_dict(eager.state_dict())
    fast = tzwc.compile(model)
    x = torch.randn(5, 4, dtype=torch.float64)
    results = []
    for m in (eager, fast):
        torch.manual_seed(1)
        y = m({"x": x})["hidden"]
        y.sum().backward()
        results.append((y, m.net[0].weight.grad, m.net[1].running_var, m.calls))
    for a, b in zip(*results, strict=True):
        close(a.double(), b.double())
    assert all(not s.remarks for s in fast.specialisations)


def test_terminator() -> None:
    torch.manual_seed(0)
    fast = tzwc.compile(Terminator(one_block()).double().eval())
    x = torch.randn(3, 2, 6, 6, dtype=torch.float64)
    with torch.no_grad():
        close(fast(x), fast.original(x))
        (made,) = fast.specialisations
        assert made.remarks == []
        for p in fast.parameters():
            p.mul_(1.1)
        close(fast(x), fast.original(x))
