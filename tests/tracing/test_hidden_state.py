"""Programs that look behind what is traced: histories, memory, identity, caught refusals, and the state of PyTorch."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import logging
import sys
import threading
from collections.abc import Callable
from typing import Any, NoReturn

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import tzwc
from tests.support.faithful import Written, X, pair
from tzwc.tracing import Counter


def _same_gradients(function: Callable[..., Any], **attributes: Any) -> None:
    fast, model = pair(function, **attributes)
    for _ in range(2):
        for module in (fast, model):
            module(X).sum().backward()
        assert torch.equal(fast(X), model(X))
        torch.testing.assert_close(fast.weight.grad, model.weight.grad, rtol=1e-12, atol=1e-12)


def _clamped_data(module: Any, x: Tensor) -> Any:
    kernel = 2 * module.weight
    kernel.data.clamp_(0, 1)
    return x * kernel


def _filled_without_gradients(module: Any, x: Tensor) -> Any:
    kernel = 2 * module.weight
    with torch.no_grad():
        kernel[0] = 5
        kernel.mul_(3)
    return x * kernel


def _written_through_detached_alias(module: Any, x: Tensor) -> Any:
    kernel = torch.zeros(6, dtype=x.dtype)
    alias = kernel.detach()
    alias[0] = 3 * module.weight[1]
    return x * kernel + alias.sum()


def _detached_before_written(module: Any, x: Tensor) -> Any:
    kernel = 2 * module.weight
    alias = kernel.detach()
    kernel[0] = 3 * module.weight[1]
    return x * kernel + alias.sum()


def _written_twice(module: Any, x: Tensor) -> Any:
    kernel = 2 * module.weight
    kernel[0] = 3 * module.weight[1]
    kernel.detach()[1] = 7
    return x * kernel


@pytest.mark.parametrize(
    "function",
    [
        _clamped_data,
        _filled_without_gradients,
        _written_through_detached_alias,
        _detached_before_written,
        _written_twice,
    ],
)
def test_writes_past_the_history_of_gradients(function: Callable[..., Any]) -> None:
    _same_gradients(function)


@pytest.mark.filterwarnings("ignore:None of the inputs")
def test_a_reentrant_checkpoint_without_gradients_of_its_arguments() -> None:
    fast, model = pair(lambda m, x: checkpoint(lambda a: a * m.weight, x, use_reentrant=True))
    assert fast(X).requires_grad is model(X).requires_grad is False
    assert fast(X.clone().requires_grad_()).requires_grad


class _Reversal(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        del ctx
        return x

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        del ctx
        return -gradient


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(x, y)
        return x * y, x + y

    @staticmethod
    def backward(ctx: Any, first: Tensor, second: Tensor) -> Any:  # type: ignore[override]
        x, y = ctx.saved_tensors
        return 7 * first * y + second, (first * x).sum(0) - 3 * second.sum(0)


def test_custom_functions_that_return_or_save_their_arguments() -> None:
    for function in (
        lambda m, x: _Reversal.apply(x * m.weight) + _Reversal.apply(m.weight),
        lambda m, x: sum(_Product.apply(x, m.weight)),
    ):
        _same_gradients(function)
        fast, _ = pair(function)
        fast(X)
        assert fast.level == "whole graph"


def test_a_caught_refusal_is_still_one() -> None:
    def forward(module: Any, x: Tensor) -> Any:
        module.calls += 1
        try:
            if module.calls > 2:
                return 2 * x
        except Exception:
            pass
        return x * module.weight

    fast, model = pair(forward, calls=0)
    for _ in range(4):
        assert torch.equal(fast(X), model(X))


def test_a_refused_capture_leaves_autograd_as_it_was(capsys: pytest.CaptureFixture[str]) -> None:
    fast, model = pair(lambda m, x: (print(m.weight.sum()), x * m.weight)[1])
    excluded = torch._C._dispatch_tls_local_exclude_set()
    assert fast(X).requires_grad
    assert torch._C._dispatch_tls_local_exclude_set() == excluded
    assert model(X).requires_grad
    assert "grad_fn" in capsys.readouterr().out


def test_gradients_switched_on_for_the_caller() -> None:
    def forward(module: Any, x: Tensor) -> Any:
        torch.set_grad_enabled(False)
        y = 2 * x
        torch.set_grad_enabled(True)
        return y * module.weight

    fast, _ = pair(forward)
    with torch.no_grad():
        assert fast(X).requires_grad
        assert torch.is_grad_enabled()


def test_a_parameter_frozen_while_gradients_are_off() -> None:
    fast, model = pair(lambda m, x: x * (2 if m.weight.requires_grad else 3))
    with torch.no_grad():
        for frozen in (False, True, False):
            for module in (fast, model):
                module.weight.requires_grad_(not frozen)
            assert torch.equal(fast(X), model(X))


def test_what_numpy_writes() -> None:
    def forward(module: Any, x: Tensor) -> Any:
        module.state.numpy()[0] += 1
        return x * module.state

    fast, model = pair(forward)
    for _ in range(3):
        assert torch.equal(fast(X), model(X))
    assert torch.equal(fast.state, model.state)


def test_the_count_of_writes_is_not_frozen() -> None:
    fast, model = pair(lambda m, x: x * (2 if m.state._version == m.seen else 3), seen=0)
    for module in (fast, model):
        module.seen = module.state._version
    for _ in range(3):
        assert torch.equal(fast(X), model(X))
        for module in (fast, model):
            module.state.add_(1)


def test_one_tensor_given_twice_is_one() -> None:
    fast, model = pair(lambda m, x, y: x * m.weight * (2 if x is y else 3))
    other = X.clone()
    for arguments in ((X, X), (X, other), (X, X), (X[:2], X[:2])):
        assert torch.equal(fast(*arguments), model(*arguments))


def test_the_arrangement_of_an_argument_in_memory() -> None:
    wide = torch.arange(48.0, dtype=torch.float64)
    fast, model = pair(lambda m, x: x.as_strided((2, 6), (6, 1)) + m.weight)
    for x in (wide.reshape(4, 12)[:, ::2], wide[:24].reshape(6, 4).t(), wide[:24].reshape(4, 6)):
        assert torch.equal(fast(x), model(x))


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_transposed_arguments_at_many_sizes(backend: str) -> None:
    model = Written(lambda m, x: (2 * x * m.weight, x.t().reshape(-1)))
    fast = tzwc.compile(copy.deepcopy(model), backend=backend)
    for batch in (3, 4, 5, 6, 7):
        x = torch.arange(6.0 * batch, dtype=torch.float64).reshape(6, batch).t()
        for found, expected in zip(fast(x), model(x), strict=True):
            assert torch.equal(found, expected)
            assert found.stride() == expected.stride()
    assert len(fast.specialisations) == 1


@dataclasses.dataclass
class _Prepared:
    value: Tensor

    def __post_init__(self) -> None:
        self.name = "prepared"


def test_results_keep_their_types_and_identity() -> None:
    fast, _ = pair(lambda m, x: (x * m.weight, x.shape))
    for batch in (4, 3):
        assert type(fast(X[:batch])[1]) is torch.Size
        assert fast(X[:batch])[1] == (batch, 6)
    fast, _ = pair(lambda m, x: setattr(m, "size", x.shape) or x * m.weight, size=X.shape)
    for batch in (4, 3, 3, 4):
        fast(X[:batch])
        assert type(fast.size) is torch.Size
        assert fast.size == (batch, 6)
    fast, _ = pair(lambda m, x: _Prepared(x * m.weight))
    assert fast(X).name == "prepared"
    fast, _ = pair(lambda m, _: m.kept, kept=[1, 2])
    assert fast(X) is fast.original.kept


def test_what_is_written_and_logged(capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    def forward(module: Any, x: Tensor) -> Any:
        sys.stdout.write("called\n") if module.training else logging.getLogger("model").warning("called")
        return x * module.weight

    fast, _ = pair(forward)
    for _ in range(3):
        fast(X)
    fast.eval()
    for _ in range(3):
        fast(X)
    assert capsys.readouterr().out.count("called") == 3
    assert [record.name for record in caplog.records].count("model") == 3


def test_a_module_that_calls_what_it_was_compiled_to() -> None:
    def forward(module: Any, x: Tensor, depth: int = 2) -> Any:
        return x * module.weight if depth == 0 else module.__dict__["again"](x, depth - 1) + 1

    fast, model = pair(forward)
    fast.original.__dict__["again"], model.__dict__["again"] = fast, model
    for _ in range(2):
        assert torch.equal(fast(X), model(X))


def test_a_counter_is_an_integer_to_other_threads() -> None:
    def refuse(what: str) -> NoReturn:
        raise tzwc.CaptureError(what)

    counter: Any = Counter("calls", refuse, 5) + 1
    with pytest.raises(tzwc.CaptureError, match="depends on 'calls'"):
        int(counter)
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.extend([counter + 1, counter > 3, str(counter), 10 % counter]))
    thread.start()
    thread.join()
    assert found == [7, True, "6", 4]


def test_nothing_stays_patched() -> None:
    owners: list[Any] = [Tensor, torch.autograd, torch._C.ScriptFunction, logging.Logger, sys.stdout, nn.Module]
    before = [dict(vars(owner)) for owner in owners]
    for function in (lambda m, x: x * m.weight, lambda _, x: x * x.sum().item(), lambda m, x: x @ m.missing):
        fast, _ = pair(function)
        with contextlib.suppress(AttributeError):
            fast(X)
        assert [dict(vars(owner)) for owner in owners] == before
