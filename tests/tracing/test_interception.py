"""What a program does to tensors without operators: refused with the reason, right, and the affair of one thread."""

from __future__ import annotations

import random
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import tzwc
from tests.support.faithful import Written, X, pair


def _gives_data(module: Any, x: Tensor) -> Tensor:
    module.scratch.data = x.detach()[0]
    return module.scratch * module.weight


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda m, x: m.weight * x.tolist()[1][2], "reads a value that depends on the inputs"),
        (lambda m, x: m.weight * float(x.numpy()[1, 2]), r"depends on the inputs \(Tensor.numpy\)"),
        (lambda m, x: m.weight * int(x.sum()), "reads a value that depends on the inputs"),
        (lambda m, x: m.weight * len(str(x[0, 0])), r"depends on the inputs \(Tensor.__(str|repr)__\)"),
        (lambda m, x: (print(x[0]), m.weight * x)[1], "prints a tensor that depends on the inputs"),
        (_gives_data, "gives a tensor data that depend on the inputs"),
        (lambda m, x: (m.weight.__setattr__("grad", None), x * m.weight)[1], "sets Tensor.grad"),
        (lambda m, x: (m.weight.requires_grad_(False), x * m.weight)[1], "sets requires_grad to False"),
    ],
)
def test_what_depends_on_inputs_or_is_lost_is_refused(function: Callable[..., Any], reason: str) -> None:
    scratch = torch.zeros(6, dtype=torch.float64)
    with pytest.raises(tzwc.CaptureError, match=rf"test_interception.py:\d+: .* {reason}"):
        tzwc.capture(Written(function, scratch=scratch), X)
    fast, model = pair(function, scratch=scratch)
    for x in (X, 2 * X):
        assert torch.equal(fast(x), model(x))


def test_a_gradient_that_forward_resets() -> None:
    def forward(module: Any, x: Tensor) -> Tensor:
        module.weight.grad = None
        return x * module.weight

    fast, model = pair(forward)
    for _ in range(3):
        for module in (fast, model):
            module(X).sum().backward()
        assert torch.equal(fast.weight.grad, model.weight.grad)


def test_asking_for_what_holds_already_changes_nothing() -> None:
    def forward(module: Any, x: Tensor) -> Tensor:
        module.state.requires_grad = False
        return x * module.weight * module.state.requires_grad_(False)

    fast, model = pair(forward)
    assert torch.equal(fast(X), model(X))
    assert fast.level == "whole graph"


@pytest.mark.parametrize("name", ["retain_grad", "register_hook"])
def test_a_history_that_is_not_there_is_the_error_of_eager(name: str) -> None:
    fast, model = pair(lambda m, x: (getattr(m.state, name)(*([print] if "hook" in name else [])), x)[1])
    for module in (fast, model):
        with pytest.raises(RuntimeError, match=r"doesn't require gradient|requires_grad=False"):
            module(X)


_entered, _left, _found = threading.Event(), threading.Event(), list[Any]()


def _meet(module: Any, x: Tensor) -> Tensor:
    _entered.set()
    assert _left.wait(300)
    return x * module.weight


def test_other_threads_get_what_they_ask_for() -> None:
    """Meanwhile, a thread does what would be refused, and nobody notices."""

    def other() -> None:
        assert _entered.wait(300)
        try:
            tensor = torch.arange(3.0)
            tensor.data = 2 * tensor
            tensor.requires_grad_()
            tensor.grad = torch.ones(3)
            _found.extend((tensor.tolist(), int(tensor[1]), tensor.requires_grad, tensor.grad.tolist()))
            _found.append(torch.autograd.grad((tensor**2).sum(), tensor)[0].tolist())
        finally:
            _left.set()

    thread = threading.Thread(target=other)
    thread.start()
    found = tzwc.capture(Written(_meet), X)
    thread.join()
    assert _found == [[0.0, 2.0, 4.0], 2, True, [1.0, 1.0, 1.0], [0.0, 4.0, 8.0]]
    assert [node.op for node in found.module.graph.nodes].count("call_function") == 1


def test_a_number_has_the_methods_of_a_float() -> None:
    fast, model = pair(lambda m, x: x * (2 if m.width.item().is_integer() else 3), width=torch.tensor(1.5))
    for width in (1.5, 2.5, 2.0, 1.5):
        for module in (fast, model):
            module.width.fill_(width)
        assert torch.equal(fast(X), model(X))


def test_without_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "numpy.random", raising=False)
    assert tzwc.capture(Written(lambda m, x: x * m.weight), X).slots
    with pytest.raises(tzwc.CaptureError, match="draws random numbers outside of PyTorch"):
        tzwc.capture(Written(lambda m, x: x * m.weight * random.random()), X)
