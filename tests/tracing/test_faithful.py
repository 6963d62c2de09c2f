"""Ways of writing a module that a captured graph can get wrong without a word: right, or run as they were."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import tzwc
from tests.support.faithful import Hundred, X, pair

_hundred = Hundred.apply


def _reversed_gradient(module: Any, x: Tensor) -> Tensor:
    y = x * module.weight
    if y.requires_grad:
        y.register_hook(lambda gradient: -gradient)
    return y


def _reassigned_buffer(module: Any, x: Tensor) -> Tensor:
    module.state = 0.9 * module.state + x.mean(0)
    return x * module.state * module.weight


def _written_attribute(module: Any, x: Tensor) -> Tensor:
    module.plain.add_(1)
    return x * module.plain * module.weight


def _written_parameter(module: Any, x: Tensor) -> Tensor:
    with torch.no_grad():
        module.weight.add_(1)
    return x * module.weight


@pytest.mark.parametrize(
    "function",
    [
        lambda m, x: _hundred(x * m.weight),
        _reversed_gradient,
        lambda m, x: x * m.unregistered[0] * m.weight,
        lambda m, x: m.modules_in_a_list[0](x) * m.weight,
        _reassigned_buffer,
        _written_attribute,
        _written_parameter,
        lambda m, x: x * m.plain.item() * m.weight,
    ],
)
def test_results_gradients_and_state_as_in_eager(function: Callable[..., Any]) -> None:
    torch.manual_seed(0)
    linear = nn.Linear(6, 6).double()
    fast, model = pair(
        function,
        unregistered=[torch.ones(6, dtype=torch.float64, requires_grad=True)],
        modules_in_a_list=[linear],
        plain=torch.tensor(3.0, dtype=torch.float64),
    )
    for _ in range(3):
        found, expected = fast(X), model(X)
        assert torch.equal(found, expected)
        found.sum().backward()
        expected.sum().backward()
        assert fast.weight.grad is not None
        assert torch.equal(fast.weight.grad, model.weight.grad)
        assert torch.equal(fast.state, model.state)
        for m in (fast.original, model):
            m.plain.add_(0.5)


@pytest.mark.parametrize("name", ["input", "sum", "type", "device", "torch"])
def test_arguments_may_be_named_like_builtins(name: str) -> None:
    namespace: dict[str, Any] = {}
    exec(f"def forward(self, {name}): return {name}.sin()", namespace)
    fast = tzwc.compile(type("Named", (nn.Module,), {"forward": namespace["forward"]})(), backend="eager")
    assert torch.equal(fast(X), X.sin())
    assert len(fast.specialisations) == 1


def test_one_tensor_given_twice_does_not_become_one_input() -> None:
    fast, model = pair(lambda m, x, y: 2 * x + 3 * y + m.state)
    other = X + 1
    for arguments in ((X, X), (X, other), (fast.state, X)):
        assert torch.equal(fast(*arguments), model(*arguments))


def test_what_was_none_may_become_a_tensor_and_back() -> None:
    fast = tzwc.compile(nn.Linear(6, 3, bias=False).double(), backend="eager")
    for bias in (None, nn.Parameter(torch.full((3,), 5.0, dtype=torch.float64)), None):
        fast.bias = bias
        with torch.no_grad():
            assert torch.equal(fast(X), fast.original(X))


@dataclasses.dataclass
class _Held:
    value: object


_HELD: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "attribute": (lambda value: value, lambda held: held),
    "list": (lambda value: [value], lambda held: held[0]),
    "dictionary": (lambda value: {"value": value}, lambda held: held["value"]),
    "object": (_Held, lambda held: held.value),
    "set": (lambda value: {value}, lambda held: next(iter(held))),
    "list in a list": (lambda value: [[value]], lambda held: held[0][0]),
    "tuple in a dictionary": (lambda value: {"value": (value,)}, lambda held: held["value"][0]),
    "dictionary in a tuple in a list": (lambda value: [({"value": value},)], lambda held: held[0][0]["value"]),
}


@pytest.mark.parametrize("kind", _HELD)
@pytest.mark.parametrize(
    ("old", "new"), [(2, 2.0), (True, 1), (0.0, -0.0), (3.0, torch.tensor(3.0)), (torch.tensor(3.0), 3.0)]
)
def test_equal_is_not_the_same(kind: str, old: object, new: object) -> None:
    hold, get = _HELD[kind]

    def forward(module: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        value = get(module.z)
        return torch.copysign(x, torch.full_like(x, value)), torch.arange(6) * value

    fast, model = pair(forward, z=hold(old))
    fast(X)
    for m in (fast.original, model):
        _refill(m, hold(new))
    for found, expected in zip(fast(X), model(X), strict=True):
        assert found.dtype == expected.dtype
        assert torch.equal(found, expected)


def _refill(module: Any, wanted: Any) -> None:
    """Give ``z`` other contents; it stays the same object where it is a container."""
    if isinstance(module.z, list):
        module.z[:] = wanted
    elif isinstance(module.z, (dict, set)):
        module.z.clear()
        module.z.update(wanted)
    elif isinstance(module.z, _Held):
        module.z.value = wanted.value
    else:
        module.z = wanted


def test_buffers_that_begin_to_need_gradients() -> None:
    fast, model = pair(lambda m, x: (x * m.state.exp()).sum())
    fast(X)
    fast.state.requires_grad_()
    model.state.requires_grad_()
    (found,) = torch.autograd.grad(fast(X), fast.state)
    (expected,) = torch.autograd.grad(model(X), model.state)
    assert torch.equal(found, expected)


def test_views_of_written_buffers() -> None:
    def forward(module: Any, x: Tensor) -> Tensor:
        module.state.add_(1)
        return x @ module.view.outer(module.view).exp()

    fast, model = pair(forward)
    for m in (fast.original, model):
        m.register_buffer("view", m.state.view(6))
    for _ in range(2):
        assert torch.equal(fast(X), model(X))


def test_arguments_that_are_filled() -> None:
    fast, _ = pair(lambda m, x, filled: filled.update(y=x * m.weight) or x)
    filled: dict[str, Tensor] = {}
    fast(X, filled)
    assert list(filled) == ["y"]
    assert type(filled["y"]) is Tensor


def test_hooks_on_all_modules() -> None:
    fast = tzwc.compile(nn.Sequential(nn.ReLU()), backend="eager")
    fast(X)
    handle = nn.modules.module.register_module_forward_pre_hook(
        lambda module, args: (2 * args[0],) if isinstance(module, nn.ReLU) else None
    )
    try:
        assert torch.equal(fast(X), fast.original(X))
    finally:
        handle.remove()


def test_contiguity_is_part_of_the_kind_of_call() -> None:
    fast, model = pair(lambda m, x: m.weight[0] * x if x.is_contiguous() else 3 * x)
    square = X[:, :4]
    for x in (X, square.contiguous(), square, X):
        assert torch.equal(fast(x), model(x))


def test_containers_and_nested_state() -> None:
    fast = tzwc.compile(nn.Sequential(nn.Linear(6, 6), nn.ReLU()).double(), backend="eager")
    assert len(fast) == 2
    assert fast[1] is fast.original[1]
    assert [type(m) for m in fast] == [nn.Linear, nn.ReLU]
    assert bool(tzwc.compile(nn.ReLU(), backend="eager"))
    outer = nn.Sequential(fast)
    outer.load_state_dict({k: 2 * v for k, v in outer.state_dict().items()})
    with torch.no_grad():
        assert torch.equal(outer(X), fast.original(X))


def test_a_scripted_module_runs_as_it_was() -> None:
    scripted = torch.jit.trace(nn.Linear(6, 3).double(), X)
    fast = tzwc.compile(nn.Sequential(scripted), backend="eager")
    assert torch.equal(fast(X), scripted(X))
    assert "runs as it was" in str(fast.report())


def test_a_backend_that_fails_when_it_runs_does_not_lose_the_answer() -> None:
    def backend(*_: object) -> Callable[..., Any]:
        def run(*_: object) -> Any:
            raise RuntimeError("out of luck")

        return run

    fast = tzwc.compile(nn.Linear(6, 3).double(), backend=backend)
    with torch.no_grad():
        assert torch.equal(fast(X), fast.original(X))
    assert "out of luck" in str(fast.report())
