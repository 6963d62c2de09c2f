"""Gradients of a compiled module against those of eager mode."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

import tzwc
from tests.support.programs import HyperConv, example
from tzwc.runtime.compiled_module import CompiledModule

Loss = Callable[[Tensor], Tensor]
BATCHES = [example(batch, seed=batch) for batch in (5, 3, 5, 2)]


def hyper_conv() -> HyperConv:
    torch.manual_seed(0)
    return HyperConv().double()


def compiled(model: nn.Module, backend: object = "eager") -> CompiledModule:
    return tzwc.compile(model, backend=backend)


def square(y: Tensor) -> Tensor:
    return y.square().sum()


def eager_gradients(batches: list[Tensor], loss: Loss = square) -> list[Tensor]:
    model = hyper_conv()
    for x in batches:
        loss(model(x)).backward()
    return [p.grad for p in model.parameters() if p.grad is not None]


def assert_gradients(model: nn.Module, expected: list[Tensor], factor: float = 1.0) -> None:
    found = [p.grad for p in model.parameters() if p.grad is not None]
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, factor * b, rtol=0, atol=1e-12 * factor * max(1.0, b.abs().max().item()))
