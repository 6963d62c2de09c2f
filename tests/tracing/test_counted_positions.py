"""Positions and sizes that Python counts up: the answer of eager mode, and a remark that gives the line."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import tzwc


class Counts(nn.Module):
    def __init__(self, body: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        self.register_buffer("ring", torch.zeros(8))
        self.position = 0
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        return self.body(self, x)


def _item(m: Any, x: Tensor) -> Tensor:
    m.ring[m.position] = x.sum()
    m.position += 1
    return x * m.ring.sum()


def _slice(m: Any, x: Tensor) -> Tensor:
    m.ring[m.position : m.position + 1] = 1
    m.position += 1
    return x + m.ring.sum()


def _narrow(m: Any, x: Tensor) -> Tensor:
    m.ring.narrow(0, m.position, 1).copy_(x.sum())
    m.position += 1
    return x * m.ring.sum()


def _index_copy(m: Any, x: Tensor) -> Tensor:
    m.ring.index_copy_(0, torch.tensor([m.position]), x[:1])
    m.position += 1
    return x * m.ring.sum()


def _size(m: Any, x: Tensor) -> Tensor:
    m.position += 1
    return x + torch.zeros(m.position).sum()


def _range(m: Any, x: Tensor) -> Tensor:
    for _ in range(m.position):
        x = x + 1
    m.position += 1
    return x


def _list(m: Any, x: Tensor) -> Tensor:
    m.position += 1
    return x * [1, 2, 3, 4, 5, 6, 7, 8][m.position]


def _text(m: Any, x: Tensor) -> Tensor:
    m.position += 1
    return x + len(f"{m.position:>3}")


def _factor(m: Any, x: Tensor) -> Tensor:
    m.position += 1
    return x * m.position


def _roll(m: Any, x: Tensor) -> Tensor:
    m.position += 1
    return x.roll(m.position, 0)


def _power(m: Any, x: Tensor) -> Tensor:
    m.position += 1
    return x / (1 - 0.9**m.position)


@pytest.mark.parametrize(
    "body", [_item, _slice, _narrow, _index_copy, _size, _range, _list, _text, _factor, _roll, _power]
)
@pytest.mark.parametrize("grad", [False, True])
def test_the_answer_is_right_and_the_line_is_said(body: Callable[[Any, Tensor], Tensor], grad: bool) -> None:
    expected = Counts(body)
    module = copy.deepcopy(expected)
    fast = tzwc.compile(module, backend="eager")
    with torch.set_grad_enabled(grad):
        for _ in range(4):
            x = torch.randn(3)
            assert torch.equal(fast(x), expected(x))
    assert torch.equal(module.ring, expected.ring)
    assert module.position == expected.position
    reason = fast.remarks[0].reason
    assert "test_counted_positions.py:" in reason
    assert "'position'" in reason
    assert "Counter" not in reason


class Replaces(nn.Module):
    """A buffer is read, written, and replaced by what depends on the inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("last", torch.zeros(3))
        self.weight = nn.Parameter(torch.ones(3))

    def forward(self, x: Tensor) -> Tensor:
        self.last.add_(1)
        y = x * self.weight + self.last
        self.last = y.detach()
        return y


def test_a_capture_warns_of_nothing_that_eager_does_not() -> None:
    expected = Replaces()
    module = copy.deepcopy(expected)
    fast = tzwc.compile(module, backend="eager")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(3):
            x = torch.randn(3)
            assert torch.equal(fast(x), expected(x))
    assert torch.equal(module.last, expected.last)
    assert fast.level == "whole graph"
