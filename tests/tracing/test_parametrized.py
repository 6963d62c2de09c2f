"""Weights inside ``parametrize.cached()``, and other tensors that a program keeps outside of its module."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import orthogonal, spectral_norm, weight_norm

import tzwc


@pytest.fixture(autouse=True)
def _double() -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


class Symmetric(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return weight.triu() + weight.triu(1).mT


class Tied(nn.Module):
    def __init__(self, parametrization: Callable[[nn.Module], nn.Module]) -> None:
        super().__init__()
        self.cell, self.head = parametrization(nn.Linear(4, 4)), parametrization(nn.Linear(4, 4))

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(3):
            x = torch.tanh(self.cell(x))
        return self.head(x) @ self.cell.weight


def _symmetric(layer: nn.Module) -> nn.Module:
    return parametrize.register_parametrization(layer, "weight", Symmetric())


PARAMETRIZATIONS = {"weight norm": weight_norm, "spectral norm": spectral_norm, "symmetric": _symmetric}
PARAMETRIZATIONS["orthogonal"] = orthogonal

Program = Callable[[nn.Module, Tensor], list[Any]]


def _step(module: nn.Module, x: Tensor, block: Any) -> list[Any]:
    """A training step: loss, gradients and state."""
    optimizer = torch.optim.SGD(module.parameters(), 0.3)
    with block():
        loss = sum(module(x * k).pow(2).mean() for k in (1, 2))
        assert isinstance(loss, Tensor)
        optimizer.zero_grad()
        loss.backward()
    gradients = [None if p.grad is None else p.grad.clone() for p in module.parameters()]
    optimizer.step()
    return [loss.detach(), *gradients, *(b.clone() for b in module.buffers())]


def _evaluate(module: nn.Module, x: Tensor, block: Any) -> list[Any]:
    with torch.no_grad(), block():
        return [module(x), module(x + 1)]


def _training(module: nn.Module, x: Tensor) -> list[Any]:
    return [r for _ in range(4) for r in _step(module, x, parametrize.cached)]


def _switching(module: nn.Module, x: Tensor) -> list[Any]:
    found = []
    for block in (nullcontext, parametrize.cached, parametrize.cached, nullcontext, parametrize.cached):
        found += [*_evaluate(module, x, block), *_step(module, x, block), *_evaluate(module, x, block)]
    return found


def _from_evaluation(module: nn.Module, x: Tensor) -> list[Any]:
    module.eval()
    found = _evaluate(module, x, parametrize.cached)
    module.load_state_dict({k: v * 2 for k, v in module.state_dict().items()})
    found += _evaluate(module, x, parametrize.cached)
    module.train()
    return [*found, *_step(module, x, parametrize.cached), *_evaluate(module, x, nullcontext)]


def _stale_on_purpose(module: nn.Module, x: Tensor) -> list[Any]:
    """A parameter changes within the block: the first access decides, and the next block sees the new value."""
    found = []
    for _ in range(2):
        with torch.no_grad(), parametrize.cached():
            found.append(module(x))
            for parameter in module.parameters():
                parameter.mul_(1.5)
            found += [module(x), module(x)]
    return found


def _gradless_first(module: nn.Module, x: Tensor) -> list[Any]:
    """The first access of a block is without gradients, which then has none for that weight at all."""
    found: list[Any] = _step(module, x, parametrize.cached)
    with parametrize.cached():
        with torch.no_grad():
            found.append(module(x))
        module.zero_grad()
        module(x).sum().backward()
        found += [None if p.grad is None else p.grad.clone() for p in module.parameters()]
    return found + _step(module, x, parametrize.cached)


def _second_derivative(module: nn.Module, x: Tensor) -> list[Any]:
    with parametrize.cached():
        (first,) = torch.autograd.grad(module(x).pow(2).sum(), [module.cell.bias], create_graph=True)  # type: ignore[union-attr]
        wanted = [p for p in module.parameters() if p.requires_grad]
        return list(torch.autograd.grad(first.pow(2).sum(), wanted, allow_unused=True))


PROGRAMS = [_training, _switching, _from_evaluation, _stale_on_purpose, _gradless_first, _second_derivative]


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("name", list(PARAMETRIZATIONS))
def test_inside_of_a_block_everything_is_as_in_the_module(name: str, program: Program) -> None:
    torch.manual_seed(0)
    module = Tied(PARAMETRIZATIONS[name])
    twin, x = copy.deepcopy(module), torch.randn(3, 4)
    fast = tzwc.compile(module, backend="eager")
    found, expected = program(fast, x), program(twin, x)
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        assert (a is None) == (b is None)
        assert a is None or torch.allclose(a, b, rtol=1e-12, atol=1e-12)
    for a, b in zip(module.state_dict().values(), twin.state_dict().values(), strict=True):
        assert torch.allclose(a, b, rtol=1e-12, atol=1e-12)


def test_a_cached_weight_is_an_input_of_the_graph() -> None:
    fast = tzwc.compile(Tied(weight_norm), backend="eager")
    with parametrize.cached():
        fast(torch.randn(3, 4)).sum().backward()
    kinds = {slot.path: slot.kind for slot in fast.specialisations[-1].captured.slots}
    assert fast.level == "whole graph"
    assert kinds["cell.weight"] == "parametrized"
    assert not parametrize._cache


def test_a_block_that_the_module_opens_itself_is_part_of_the_graph() -> None:
    class Looping(Tied):
        def forward(self, x: Tensor) -> Tensor:
            with parametrize.cached():
                return super().forward(x)

    torch.manual_seed(0)
    module = Looping(weight_norm)
    twin, x = copy.deepcopy(module), torch.randn(3, 4)
    fast = tzwc.compile(module, backend="eager")
    for block in (nullcontext, parametrize.cached):
        for a, b in zip(_step(fast, x, block), _step(twin, x, block), strict=True):
            assert torch.allclose(a, b, rtol=1e-12, atol=1e-12)
    assert fast.level == "whole graph"


def test_a_weight_first_read_without_gradients_runs_as_written() -> None:
    class Probing(Tied):
        def forward(self, x: Tensor) -> Tensor:
            with torch.no_grad():
                size = self.cell.weight.norm()
            return super().forward(x) / (1 + size)

    torch.manual_seed(0)
    module = Probing(weight_norm)
    twin, x = copy.deepcopy(module), torch.randn(3, 4)
    fast = tzwc.compile(module, backend="eager")
    for a, b in zip(_training(fast, x), _training(twin, x), strict=True):
        assert (a is None) == (b is None)
        assert a is None or torch.allclose(a, b, rtol=1e-12, atol=1e-12)
    assert any("inside parametrize.cached()" in remark.reason for remark in fast.remarks)


_memo: dict[Any, Tensor] = {}


@functools.cache
def _twice(weight: Tensor) -> Tensor:
    return weight * 2


class _ByDictionary(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        if id(self) not in _memo:
            _memo[id(self)] = self.weight.sin()
        return x @ _memo[id(self)]


class _ByFunction(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return x @ _twice(self.weight)


@contextmanager
def _forgetting() -> Iterator[None]:
    _memo.clear()
    _twice.cache_clear()
    yield
    _memo.clear()
    _twice.cache_clear()


@pytest.mark.parametrize("kind", [_ByDictionary, _ByFunction])
@pytest.mark.parametrize("warm", [False, True])
def test_a_weight_remembered_outside_of_the_module_is_no_constant(kind: type[nn.Linear], warm: bool) -> None:
    torch.manual_seed(0)
    module = kind(4, 4)
    twin, x = copy.deepcopy(module), torch.randn(3, 4)
    fast = tzwc.compile(module, backend="eager")

    def program(model: nn.Module, original: nn.Module) -> list[Any]:
        found = []
        for _ in range(3):
            with _forgetting():
                if warm:
                    original(x)
                model.zero_grad()
                (model(x) + model(x * 2)).sum().backward()
                weight = model.get_parameter("weight")
                found.append(None if weight.grad is None else weight.grad.clone())
            with _forgetting(), torch.no_grad():
                found += [model(x), model(x)]
                model.get_parameter("weight").mul_(1.1)
        return found

    for a, b in zip(program(fast, module), program(twin, twin), strict=True):
        assert a is not None
        assert b is not None
        assert torch.allclose(a, b, rtol=1e-12, atol=1e-12)
    assert any("outside of the module" in r.reason or "does not hold" in r.reason for r in fast.remarks)
