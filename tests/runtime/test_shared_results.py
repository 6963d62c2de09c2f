"""Results that share memory with each other, with arguments, parameters or buffers do so as the module's."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

import tzwc


class Base(nn.Module):
    def __init__(self, body: Callable[[Base, Tensor], Any]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.w = nn.Parameter(torch.randn(4, 4, dtype=torch.float64))
        self.b: Tensor
        self.register_buffer("b", torch.randn(4, 4, dtype=torch.float64))
        self.linear = nn.Linear(4, 4, dtype=torch.float64)
        self.body = body

    def kept(self) -> Tensor:
        """Worth keeping between calls."""
        return torch.sin(torch.cos(self.w @ self.w))

    def forward(self, x: Tensor) -> Any:
        return self.body(self, x)


def _with(value: Tensor, use: Callable[[Tensor], Any]) -> Any:
    return use(value)


def _written(y: Tensor) -> Any:
    return y, y[0].add_(1), y.t()


PROGRAMS: dict[str, Callable[[Base, Tensor], Any]] = {
    "kept, transposed": lambda m, x: _with(m.kept(), lambda k: (x @ k, k, k.t())),
    "kept, a row": lambda m, x: _with(m.kept(), lambda k: (x @ k, k, k[0])),
    "kept, flat, used transposed": lambda m, x: _with(m.kept(), lambda k: (x @ k.t(), k, k.view(-1))),
    "kept, overlapping rows": lambda m, x: _with(m.kept(), lambda k: (x, k[:2], k[1:3])),
    "kept, halves": lambda m, x: (x + 1, *m.kept().chunk(2, 1)),
    "kept, the same": lambda m, x: _with(m.kept(), lambda k: (x @ k, k, k)),
    "kept, equal ones": lambda m, x: (x, m.kept(), m.kept()),
    "kept, written": lambda m, _: _with(m.kept().clone(), _written),
    "zeros, transposed": lambda _, x: _with(torch.zeros(4, 4), lambda z: (z, z.t(), x)),
    "zeros, equal ones": lambda _, x: (torch.zeros(4, 4), torch.zeros(4, 4), x),
    "zeros, filled": lambda m, x: _with(torch.zeros(4, 4).double(), lambda z: (z.copy_(m.w), z.t(), z[0], x + 1)),
    "result, a row": lambda m, x: _with(m.linear(x), lambda y: (y, y[0])),
    "result, written": lambda m, x: _with(m.linear(x).clone(), _written),
    "result, detached": lambda m, x: _with(m.linear(x), lambda y: (y, y.detach())),
    "result, equal ones": lambda m, x: (m.linear(x).sin(), m.linear(x).sin()),
    "argument": lambda _, x: (x, x.view(-1), x.contiguous(), x.clone()),
    "argument, views that change nothing": lambda _, x: (x.t().t(), x.reshape(4, 4), x.expand(4, 4), x[:, :]),
    "parameter": lambda m, x: (m.w, m.w.t(), m.w.t().t(), m.w.detach(), m.w.clone(), x + 1),
    "buffer": lambda m, x: {"b": m.b, "rows": m.b[1:], "sum": m.b + 0, "x": x * 1},
}


@pytest.fixture(params=[False, True], ids=["evaluation", "training"])
def train(request: pytest.FixtureRequest) -> Iterator[bool]:
    with torch.set_grad_enabled(request.param):
        yield request.param


def _tensors(result: Any) -> list[Tensor]:
    return [leaf for leaf in pytree.tree_leaves(result) if isinstance(leaf, Tensor)]


def _relations(module: Base, x: Tensor, result: Any) -> list[tuple[bool, bool]]:
    """For every pair: whether it shares memory, and whether it is one object."""
    tensors = [*_tensors(result), x, module.w, module.b]
    return [
        (a.untyped_storage().data_ptr() == b.untyped_storage().data_ptr(), a is b)
        for a, b in itertools.combinations(tensors, 2)
    ]


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
@pytest.mark.parametrize("name", list(PROGRAMS))
def test_results_share_memory_as_the_modules_do(name: str, backend: str, train: bool) -> None:
    module = Base(PROGRAMS[name]).train(train)
    fast = tzwc.compile(module, backend=backend)
    for _ in range(2):
        x = torch.randn(4, 4, dtype=torch.float64)
        found, expected = fast(x), module(x)
        if train or name != "parameter":  # a parameter has gradients although they are switched off
            assert fast.level == "whole graph"
        assert _relations(module, x, found) == _relations(module, x, expected)
        for a, b in zip(_tensors(found), _tensors(expected), strict=True):
            assert torch.allclose(a, b)
            assert a.stride() == b.stride()
            assert (a.requires_grad, a.grad_fn is None) == (b.requires_grad, b.grad_fn is None)


@pytest.mark.parametrize("name", [name for name in PROGRAMS if not name.startswith("parameter")])
def test_a_write_to_one_result_shows_in_the_others_and_in_no_later_call(name: str) -> None:
    module = Base(PROGRAMS[name]).eval()
    twin, fast = copy.deepcopy(module), tzwc.compile(module, backend="eager")
    x = torch.randn(4, 4, dtype=torch.float64)
    with torch.no_grad():
        for index in range(len(_tensors(twin(x.clone())))):
            results = []
            for model, original in ((fast, module), (twin, twin)):
                given = x.clone()
                first = _tensors(model(given))
                first[index].add_(1)
                results.append([*first, given, original.b.clone(), *_tensors(model(x.clone()))])
            for a, b in zip(*results, strict=True):
                assert torch.allclose(a, b)
