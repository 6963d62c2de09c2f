"""Small models and comparisons for the tests of GPU lowering."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from tzwc.cross_compile import Process, interpret
from tzwc.models import LocalSpec, SlowNetSpec, Terminator, terminator
from tzwc.models.operators import convolution, convolve

__all__ = ["Branches", "Dots", "Hyper", "Long", "Stacked", "assert_as_good_as_eager", "assert_near", "small"]


class Hyper(nn.Module):
    """A gate, a product and a convolution by FFT with kernels that slow networks write."""

    grid: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("grid", torch.linspace(-1, 1, 16).reshape(-1, 1))
        self.slow = nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Linear(8, 6))
        self.head = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        kernel = self.slow(self.grid).t()
        spectrum = torch.fft.rfft(x, n=32) * torch.fft.rfft(kernel, n=32)
        mixed = torch.fft.irfft(spectrum, n=32)[..., :16]
        result: Tensor = self.head(nn.functional.gelu(mixed) * x).mean(1)
        return result


class Dots(nn.Module):
    """Three values that share one product with a kernel that a slow network writes."""

    codes: Tensor

    def __init__(self, channels: int = 3, size: int = 20) -> None:
        super().__init__()
        self.register_buffer("codes", torch.linspace(-1, 1, size * size).reshape(size, size, 1))
        self.slow = nn.Linear(1, channels)

    def forward(self, z: Tensor, v: Tensor) -> Tensor:
        weights = z * torch.sin(3 * self.slow(self.codes)).permute(2, 0, 1)
        return weights @ v + torch.relu(weights @ v.sigmoid()) * (weights @ v.tanh())


class Long(nn.Module):
    """The convolution form with full context, whose kernel a slow network writes, and an epilogue."""

    codes: Tensor

    def __init__(self, padding: str = "causal", length: int = 64) -> None:
        super().__init__()
        self.register_buffer("codes", torch.linspace(-1, 1, length).reshape(-1, 1))
        self.slow = nn.Linear(1, 6)
        self.padding = padding

    def forward(self, z: Tensor, v: Tensor) -> Tensor:
        kernel = torch.sin(3 * self.slow(self.codes)).t()[None]
        return nn.functional.gelu(convolution(z, kernel, v, self.padding)) * z


class Stacked(nn.Module):
    """The convolution form with full context for three values that share their kernels, and are read by others too."""

    codes: Tensor

    def __init__(self, length: int = 64) -> None:
        super().__init__()
        self.register_buffer("codes", torch.linspace(-1, 1, length).reshape(-1, 1))
        self.slow = nn.Linear(1, 6)
        self.mix = nn.Conv1d(6, 6, 3, padding=1, groups=6)

    def forward(self, x: Tensor) -> Tensor:
        weights = x * torch.sin(3 * self.slow(self.codes)).t()[None]
        first, second, third = torch.tanh(x), torch.sigmoid(x), x * x
        results = [convolve(weights, value) for value in (first, second, third)]
        return torch.cat([results[0], results[1] * results[2], self.mix(second) + third.mean(0), first], 1)


class Branches(nn.Module):
    """Maps of one tensor, a sum of two maps, and small networks on several grids: what ``merge_parallel`` merges."""

    def __init__(self, channels: int = 4) -> None:
        super().__init__()
        self.maps = nn.ModuleList(nn.Conv2d(channels, channels, 1) for _ in range(5))
        self.generators = nn.ModuleList(nn.Conv2d(channels, 2, 1) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        key, value, mix, left, right = self.maps
        y = key(x) * value(x) + torch.tanh(mix(x))
        y = left(y.exp()) + right(y.sigmoid())
        mean = x.mean(0, keepdim=True)
        for size, generator in enumerate(self.generators, start=1):
            y = y * torch.tanh(generator(nn.functional.adaptive_avg_pool2d(mean, size))).sum()
        return y


def small(preset: str) -> Terminator:
    """One block of a preset, with narrow slow networks on a small grid; every kind of branch once."""
    net = SlowNetSpec(hidden=4, layers=1)
    flat = terminator_axes(preset) == 1
    return terminator(
        preset,
        sizes=(16,) if flat else (4, 4),
        in_channels=2,
        factors=(6,),
        classes=3,
        groups=4,
        dropout=0.0,
        skips=((),),
        global_net=net,
        local_net=net,
        hci_net=net,
        interaction_channel_net=net,
        interaction_spatial_net=net,
        local=(LocalSpec(name="l1", kernel_size=9 if flat else 3, kernel_from="x", applied_to="hci"),),
        concat=("out", "fast", "l1", "glu", "hyp"),
    )


def terminator_axes(preset: str) -> int:
    """Grid axes of a preset."""
    from tzwc.models.presets import PRESETS

    return len(PRESETS[preset].get("sizes", (0, 0)))


def assert_as_good_as_eager(model: nn.Module, *inputs: Tensor, train: bool, process: Process, **options: Any) -> None:
    """The generated code is about as close to the model in float64 as eager mode is.

    For results and for gradients by themselves; see :func:`assert_near`.
    """
    exact_model = copy.deepcopy(model).double()
    exact = _evaluate(exact_model, [x.double() if x.is_floating_point() else x for x in inputs], train)
    eager = _evaluate(copy.deepcopy(model), inputs, train)
    result, gradients = interpret(model, *inputs, train=train, process=process, **options)
    assert exact.keys() == {"the result", *gradients}
    assert_near({"the result": result}, eager, exact)
    assert_near(gradients, eager, exact)


def assert_near(found: Mapping[str, Any], eager: Mapping[str, Any], exact: Mapping[str, Any]) -> None:
    """Both ``found`` and ``eager`` round, in other places, so both are compared with ``exact``, which is in float64.

    Distances are relative to the largest element of each tensor. Allowed is eight times what eager mode makes of its
    worst tensor (in one tensor it may be exact by luck), and as a floor 64 roundings, for the longest chain of
    operations here.
    """
    tensors = [name for name in found if isinstance(exact[name], Tensor)]
    worst = max((_distance(eager[name], exact[name]) for name in tensors), default=0.0)
    for name in tensors:
        assert found[name].dtype == eager[name].dtype
        eps = torch.finfo(eager[name].dtype).eps if eager[name].is_floating_point() else 0.0
        distance, allowed = _distance(found[name], exact[name]), max(8 * worst, 64 * eps)
        assert distance <= allowed, f"{name}: {distance:.2e} from float64, where {allowed:.2e} are allowed"


def _distance(found: Tensor, exact: Tensor) -> float:
    assert found.shape == exact.shape
    peak = exact.abs().max().item()
    return (found.double() - exact).abs().max().item() / (peak or 1.0)


def _evaluate(model: nn.Module, inputs: Any, train: bool) -> dict[str, Tensor]:
    with torch.set_grad_enabled(train):
        result: Tensor = model(*inputs)
    if train:
        result.backward(torch.ones_like(result))
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return {"the result": result.detach(), **gradients}
