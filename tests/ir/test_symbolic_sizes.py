"""Which sizes a graph is right for, and that it gives the results of the module at all of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

import tzwc
from tests.support.faithful import Written
from tzwc.ir.symbolic_sizes import fits


@pytest.mark.parametrize(
    ("function", "captured_at", "right", "wrong"),
    [
        (lambda _, x: 2 * x, [(4, 3)], [(2, 3)], [(4, 2)]),
        (lambda _, x: 2 * x, [(4, 3)], [(5, 3)], [(4, 3, 1)]),
        (lambda _, x, y: x + y, [(4, 3), (4, 3)], [(5, 3), (5, 3)], [(5, 3), (4, 3)]),
        (lambda _, x, y: x.sum() + y.sum(), [(4, 3), (5, 3)], [(5, 3), (7, 3)], [(5, 3), (7, 2)]),
        (lambda _, x, y: torch.cat([x, x]) + y, [(4, 3), (8, 3)], [(5, 3), (10, 3)], [(5, 3), (9, 3)]),
        (lambda _, x: 2 * x if x.shape[0] > 3 else x, [(4, 3)], [(9, 3)], [(3, 3)]),
        (lambda _, x: 2 * x if x.shape[0] % 2 == 0 else x, [(4, 3)], [(6, 3)], [(5, 3)]),
        (
            lambda _, x, y: x.sum() if x.shape[0] < y.shape[0] else y.sum(),
            [(4, 3), (6, 3)],
            [(3, 3), (9, 3)],
            [(8, 3), (6, 3)],
        ),
    ],
)
def test_a_graph_is_accepted_where_it_is_right(
    function: Callable[..., Any],
    captured_at: list[tuple[int, ...]],
    right: list[tuple[int, ...]],
    wrong: list[tuple[int, ...]],
) -> None:
    model = Written(function)
    captured = tzwc.capture(model, *map(torch.ones, captured_at))
    for sizes in (captured_at, right):
        assert captured.accepts(list(map(torch.Size, sizes)))
        inputs: list[Tensor] = [torch.randn(size) for size in sizes]
        assert torch.equal(captured.module(*inputs)[0], model(*inputs))
    assert not captured.accepts(list(map(torch.Size, wrong)))


def test_a_graph_without_tensors_fits_every_call() -> None:
    assert tzwc.capture(Written(lambda _, x: 2 * x), 3).accepts([])


@pytest.mark.parametrize("mode", [None, FakeTensorMode()])
def test_fixed_sizes_need_no_symbols(mode: FakeTensorMode | None) -> None:
    assert fits([(4, 3)], [(4, 3)], mode)
    assert not fits([(4, 3)], [(3, 4)], mode)
