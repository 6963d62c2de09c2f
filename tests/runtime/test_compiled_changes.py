"""Kept values are renewed right after every kind of change."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize, prune, vector_to_parameters

import tzwc
from tests.support.compiled_testing import assert_same, compiled, hyper_conv
from tests.support.programs import HyperConv, example


class _Double(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return 2 * weight


def _optimizer_step(kind: Callable[..., torch.optim.Optimizer], **options: object) -> Callable[[HyperConv], None]:
    def step(model: HyperConv) -> None:
        optimizer = kind(model.parameters(), lr=0.1, **options)
        with torch.enable_grad():
            model(example()).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def _load(strict: bool = True, assign: bool = False) -> Callable[[HyperConv], None]:
    def load(model: HyperConv) -> None:
        torch.manual_seed(7)
        state = {k: v + torch.randn_like(v) for k, v in model.state_dict().items()}
        model.load_state_dict(state, strict=strict, assign=assign)

    return load


def _data_setter(model: HyperConv) -> None:
    model.slow[0].weight.data = model.slow[0].weight.data * 3


def _data_write(model: HyperConv) -> None:
    model.slow[0].weight.data.mul_(3)


def _numpy_view(model: HyperConv) -> None:
    model.slow[0].weight.detach().numpy()[...] *= 3


def _new_parameter(model: HyperConv) -> None:
    model.slow[0].weight = nn.Parameter(model.slow[0].weight.detach() * 3)


def _new_module(model: HyperConv) -> None:
    torch.manual_seed(3)
    model.slow[2] = nn.Linear(8, 6).double()


def _transposed_in_place(model: HyperConv) -> None:
    model.enter.weight.data = model.enter.weight.data.transpose(0, 1).contiguous().transpose(0, 1)


def _swap_tensors(model: HyperConv) -> None:
    torch.utils.swap_tensors(model.slow[0].weight, nn.Parameter(model.slow[0].weight.detach() * 3))


def _wider_slow_network(model: HyperConv) -> None:
    torch.manual_seed(3)
    model.slow[0], model.slow[2] = nn.Linear(1, 12).double(), nn.Linear(12, 6).double()


def _longer_grid(model: HyperConv) -> None:
    model.grid = torch.linspace(-1, 1, 9, dtype=torch.float64).reshape(-1, 1)


def _attribute(model: HyperConv) -> None:
    model.scale = 5.0


def _parametrized(model: HyperConv) -> None:
    parametrize.register_parametrization(model.slow[0], "weight", _Double())


def _unparametrized(model: HyperConv) -> None:
    _parametrized(model)
    parametrize.remove_parametrizations(model.slow[0], "weight")


def _pruned(model: HyperConv) -> None:
    prune.l1_unstructured(model.slow[0], "weight", amount=3)
    prune.remove(model.slow[0], "weight")


def _vector(model: HyperConv) -> None:
    vector = torch.nn.utils.parameters_to_vector(model.parameters())
    vector_to_parameters(vector * 1.5, model.parameters())


def _tied(model: HyperConv) -> None:
    model.slow[0].bias = model.slow[0].bias
    model.leave.weight = nn.Parameter(torch.ones(3, 6, dtype=torch.float64))
    model.leave.bias = model.slow[2].bias if model.slow[2].bias.shape == model.leave.bias.shape else model.leave.bias


CHANGES: dict[str, Callable[[HyperConv], None]] = {
    "SGD": _optimizer_step(torch.optim.SGD),
    "foreach Adam": _optimizer_step(torch.optim.Adam, foreach=True),
    "fused Adam": _optimizer_step(torch.optim.Adam, fused=True),
    "Kar3": _optimizer_step(tzwc.models.Kar3),
    "load_state_dict": _load(),
    "load_state_dict(strict=False)": _load(strict=False),
    "load_state_dict(assign=True)": _load(assign=True),
    "p.data = x": _data_setter,
    "p.data.mul_": _data_write,
    "numpy view": _numpy_view,
    "new parameter": _new_parameter,
    "new module": _new_module,
    "other strides": _transposed_in_place,
    "swap_tensors": _swap_tensors,
    "other shapes": _wider_slow_network,
    "other buffer": _longer_grid,
    "Python attribute": _attribute,
    "parametrization": _parametrized,
    "parametrization removed": _unparametrized,
    "pruned": _pruned,
    "vector_to_parameters": _vector,
    "tied": _tied,
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_right_after_every_change(change: Callable[[HyperConv], None]) -> None:
    fast = compiled(hyper_conv())
    x = example()
    with torch.no_grad():
        assert_same(fast, x)
        before = fast(x)
    assert_same(fast, x)
    change(fast.original)
    with torch.no_grad():
        assert_same(fast, x)
        assert not torch.equal(fast(x), before) or change in (_transposed_in_place, _unparametrized)
        assert_same(fast, x)
    assert_same(fast, x)
