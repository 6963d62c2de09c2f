"""What is said when a graph and its module do not agree, and that a comparison leaves no trace."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import tzwc
from tests.support.faithful import Written, X
from tzwc.tracing.verify import difference, disagreement


def _sets(value: float) -> Callable[..., Tensor]:
    def forward(module: Any, x: Tensor) -> Tensor:
        module.last = x * value
        return x * module.weight

    return forward


def _writes(value: float) -> Callable[..., Tensor]:
    def forward(module: Any, x: Tensor) -> Tensor:
        module.state.add_(value)
        return x * module.weight

    return forward


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (lambda m, x: x * m.weight, lambda m, x: (x * m.weight, x), "the result has the structure"),
        (lambda m, x: x * m.weight, _sets(2), "it sets other attributes"),
        (lambda _, x: (print("a"), x)[1], lambda _, x: (print("b"), x)[1], "it prints something else"),
        (lambda m, x: (x, x * m.weight), lambda m, x: (x, 2 * x * m.weight), "output 1: differs by"),
        (lambda _, x: x.sum(0), lambda _, x: x.sum(1), "output 0: torch.float64[6], not torch.float64[4]"),
        (lambda _, x: x.argmax(), lambda _, x: x.argmin(), "output 0: integers differ"),
        (lambda _, x: (x, 2), lambda _, x: (x, 3), "output 1: 2, not 3"),
        (_sets(2), _sets(3), "'last': differs by"),
        (_writes(1), _writes(2), "'state': differs by"),
    ],
)
def test_every_difference_is_named(
    before: Callable[..., Any], after: Callable[..., Any], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    model = Written(before, last=torch.zeros_like(X))
    captured = tzwc.capture(model, X)
    with torch.no_grad():
        assert disagreement(model, captured, [X], {}) is None
        model.function = after
        found = disagreement(model, captured, [X], {})
    assert found is not None
    assert said in found
    assert torch.equal(model.state, Written(before).state)
    assert not model.last.any()
    assert capsys.readouterr().out == ""


def test_what_other_threads_print_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    def forward(module: Any, x: Tensor) -> Tensor:
        thread = threading.Thread(target=print, args=("beside",))
        thread.start()
        thread.join()
        return x * module.weight

    model = Written(lambda m, x: x * m.weight)
    captured = tzwc.capture(model, X)
    model.function = forward
    with torch.no_grad():
        assert disagreement(model, captured, [X], {}) is None
    assert capsys.readouterr().out == "beside\n"


def test_another_order_of_summation_is_no_difference() -> None:
    nan, inf = float("nan"), float("inf")
    expected = torch.tensor([1.0, 100.0, nan, inf])
    assert difference(expected + torch.tensor([1e-5, 0, 0, 0]), expected) is None
    found = difference(expected + torch.tensor([1e-2, 0, 0, 0]), expected)
    assert found is not None
    assert found.startswith("differs by 0.01, more than")
    assert difference(torch.tensor([1.0]), torch.tensor([nan])) is not None
    assert difference(torch.zeros(0), torch.zeros(0)) is None
