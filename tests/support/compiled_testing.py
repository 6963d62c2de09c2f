"""What tests of compiled modules share."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import tzwc
from tests.support.programs import HyperConv
from tzwc.runtime.compiled_module import CompiledModule


def compiled(model: nn.Module, **options: object) -> CompiledModule:
    return tzwc.compile(model, backend="eager", **options)


def assert_same(fast: CompiledModule, x: Tensor) -> None:
    """Equal to eager; FFTs may stand in for convolutions, so equal to 1e-10 of the peak in float64."""
    expected = fast.original(x)
    found = fast(x)
    peak = max([1.0, *expected.detach().abs().flatten().tolist()])
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10 * peak)
    assert found.requires_grad == expected.requires_grad


def hyper_conv() -> HyperConv:
    torch.manual_seed(0)
    return HyperConv().double().eval()
