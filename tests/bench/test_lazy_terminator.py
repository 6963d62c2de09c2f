"""The lazily initialised twin: the declared model's parameters and results, and the manner that is the point of it."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from tzwc.bench.capture.lazy_terminator import LazyTerminator, copy_weights, lazy_name, lazy_terminator
from tzwc.bench.capture.lazy_terminator_slow import SlowNet, SlowNetLocal
from tzwc.errors import InvalidArgumentError
from tzwc.models import Terminator, terminator

# float64 leaves 1e-15 of the largest logit: another order in the mean over the batch and in the dot product.
CLOSE = 1e-12


def twins(**overrides: Any) -> tuple[Terminator, LazyTerminator]:
    torch.manual_seed(0)
    declared = terminator("digits", **overrides).double().eval()
    lazy = lazy_terminator("digits", **overrides).double().eval()
    with torch.no_grad():
        for parameter in declared.parameters():  # offsets are zero at the start and would hide a wrong name
            parameter += 0.1 * torch.randn_like(parameter) * (parameter.std() if parameter.numel() > 1 else 1.0)
    copy_weights(declared, lazy)
    return declared, lazy


def images(batch: int, channels: int = 1) -> Tensor:
    return torch.randn(batch, channels, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(batch))


def grad(parameter: Tensor) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad


def off(found: Tensor, expected: Tensor) -> float:
    assert found.shape == expected.shape
    return ((found - expected).abs().max() / expected.abs().max()).item()


def test_as_many_parameters_as_released() -> None:
    assert sum(p.numel() for p in lazy_terminator("cifar10").parameters()) == 1_336_855


@pytest.mark.parametrize("factors", [(12,), (12, 2, 1), (12, 1, 1, 1, 2)])
def test_results_and_slow_loss_are_those_of_the_declared_model(factors: tuple[int, ...]) -> None:
    declared, lazy = twins(factors=factors)
    for batch in (5, 2):
        logits, loss = declared(images(batch), slow_loss="channel_sum")
        found, found_loss = lazy(images(batch), train_mode=True)
        assert off(found, logits) < CLOSE
        assert (found_loss.squeeze() - loss).abs() <= CLOSE * loss
        assert torch.equal(lazy(images(batch)), found)
        assert torch.equal(lazy.slow_neural_loss, found_loss)


def test_gradients_are_those_of_the_declared_model() -> None:
    # More than one channel: with one, the declared model's first standardisation is given a gradient whose batch axis
    # lies innermost, for which PyTorch's own backward is wrong.
    declared, lazy = twins(in_channels=3, factors=(4, 1, 1))
    logits, loss = declared(images(3, 3), slow_loss="channel_sum")
    (logits.square().sum() + loss).backward()
    logits, loss = lazy(images(3, 3), train_mode=True)
    (logits.square().sum() + loss.sum()).backward()
    mine = dict(lazy.named_parameters())
    largest = max(grad(p).abs().max().item() for p in declared.parameters())
    assert len(mine) == len(list(declared.parameters()))
    for name, parameter in declared.named_parameters():
        torch.testing.assert_close(grad(mine[lazy_name(name)]), grad(parameter), rtol=1e-8, atol=1e-12 * largest)


def test_the_first_forward_scales_once_and_builds_the_grids() -> None:
    torch.manual_seed(0)
    lazy = lazy_terminator("digits", factors=(12,)).eval()
    nets = [module for module in lazy.modules() if isinstance(module, (SlowNet, SlowNetLocal))]
    assert len(nets) == 8
    before = [net.net.output_linear.weight.detach().clone() for net in nets]
    x = images(2).float()
    first = lazy(x)
    for net, weight in zip(nets, before, strict=True):
        points = math.prod(net.net.bias_p.shape[2:])
        assert net.initialized[0]
        assert net.grid is not None
        assert net.grid.shape[2:] == net.net.bias_p.shape[2:]
        torch.testing.assert_close(net.net.output_linear.weight, weight / math.sqrt(points))
        assert net.conv_kernel.requires_grad
    assert torch.equal(lazy(x), first)
    again = copy.deepcopy(lazy_terminator("digits", factors=(12,)))
    again.load_state_dict(lazy.state_dict())
    with torch.no_grad():
        assert not torch.allclose(again.eval()(x), first)  # a loaded checkpoint is scaled once more


def test_a_batch_of_one_loses_its_axis() -> None:
    declared, lazy = twins(factors=(12,))
    assert off(lazy(images(1)), declared(images(1)).squeeze(0)) < CLOSE


def test_parameters_in_a_plain_list_are_not_registered() -> None:
    lazy = lazy_terminator("digits", factors=(12, 1))
    assert not {id(p) for p in lazy.between} & {id(p) for p in lazy.parameters()}


def test_initial_parameters_are_as_large_as_the_declared_ones() -> None:
    declared, lazy = terminator("digits"), lazy_terminator("digits").eval()
    with torch.no_grad():
        lazy(images(2).float())
    drawn = copy.deepcopy(lazy)
    copy_weights(declared, drawn)
    for (name, one), other in zip(lazy.named_parameters(), drawn.parameters(), strict=True):
        if one.numel() > 400 and "filters" not in name:  # gamma-distributed frequencies vary far more
            assert 0.8 < (one.std() / other.std()).item() < 1.25 or one.std() == other.std() == 0, name


@pytest.mark.parametrize(
    ("preset", "overrides", "message"),
    [
        ("smnist", {}, "'dot_product' only"),
        ("digits", {"figure": True}, "concatenates out, l2"),
        ("digits", {"local": tuple(reversed(terminator("digits").spec.local))}, "released branches"),
    ],
)
def test_another_wiring_is_refused(preset: str, overrides: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        lazy_terminator(preset, **overrides)


def test_copies_between_different_declarations_are_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="different declarations"):
        copy_weights(terminator("digits", factors=(12,)), lazy_terminator("digits", factors=(12, 1)))
