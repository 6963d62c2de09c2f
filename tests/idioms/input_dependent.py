"""Models in which Python looks at the values of the input, or at what no graph can hold."""

from __future__ import annotations

import random

import torch
from torch import Tensor, nn

from tests.idioms.idiom import PER_SUBMODULE, UNTOUCHED, Manner, inputs, seeded

__all__ = ["MANNERS"]


class BranchOnInput(nn.Module):
    """Two weights, of which the sign of the mean chooses one."""

    def __init__(self, width: int = 5) -> None:
        super().__init__()
        self.positive = nn.Parameter(torch.randn(width))
        self.negative = nn.Parameter(torch.randn(width))

    def forward(self, x: Tensor) -> Tensor:
        if x.mean() > 0:
            return x * self.positive
        return x * self.negative


class BranchBetweenModules(nn.Module):
    """The same decision between submodules that are worth compiling."""

    def __init__(self, width: int = 5) -> None:
        super().__init__()
        self.enter = nn.Sequential(nn.Linear(width, 8), nn.GELU(), nn.Linear(8, width))
        self.deep = nn.Sequential(nn.Linear(width, 8), nn.Tanh(), nn.Linear(8, width))
        self.leave = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 2))

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.enter(x)
        if hidden.mean() > 0:
            hidden = self.deep(hidden)
        out: Tensor = self.leave(hidden)
        return out


class Converging(nn.Module):
    """Repeats a block until it changes little."""

    def __init__(self, width: int = 5) -> None:
        super().__init__()
        self.block = nn.Sequential(nn.Linear(width, width), nn.Tanh())

    def forward(self, x: Tensor) -> Tensor:
        state = torch.zeros_like(x)
        for _ in range(5):
            following = 0.5 * self.block(state) + 0.5 * x
            if (following - state).abs().max().item() < 0.3:
                break
            state = following
        return state


class ScaledByPeak(nn.Module):
    """Divides by the largest input, read as a Python float."""

    def __init__(self, width: int = 5) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(width))

    def forward(self, x: Tensor) -> Tensor:
        peak = float(x.detach().abs().max())
        return x / max(peak, 1e-6) * self.weight


class SelectedRows(nn.Module):
    """Treats only the rows that are large enough; how many they are depends on the input."""

    def __init__(self, width: int = 5) -> None:
        super().__init__()
        self.expert = nn.Sequential(nn.Linear(width, 8), nn.ReLU(), nn.Linear(8, width))

    def forward(self, x: Tensor) -> Tensor:
        chosen = x.sum(-1) > 0
        out = x.clone()
        if chosen.any():
            out[chosen] = self.expert(x[chosen])
        return out


class PythonRandom(nn.Module):
    """Rolls its input by a number of Python's generator."""

    def __init__(self, width: int = 5) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(width))

    def forward(self, x: Tensor) -> Tensor:
        return torch.roll(x, random.randrange(5), dims=-1) * self.weight


class GradientInside(nn.Module):
    """The force that belongs to an energy: a gradient in forward."""

    def __init__(self, width: int = 5) -> None:
        super().__init__()
        self.stiffness = nn.Parameter(torch.randn(width, width))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            place = x.detach().requires_grad_()
            energy = 0.5 * (torch.tanh(place @ self.stiffness) ** 2).sum(-1)
            (slope,) = torch.autograd.grad(energy.sum(), place, create_graph=self.training)
        return energy if self.training else energy.detach(), -slope


def _manner(name: str, summary: str, build: type[nn.Module], whole: bool = False, chance: bool = False) -> Manner:
    return Manner(name, summary, seeded(build), inputs(5), PER_SUBMODULE if whole else UNTOUCHED, random=chance)


MANNERS = (
    _manner("branch-on-input", "branches on x.mean() > 0", BranchOnInput),
    _manner("branch-between-modules", "branches on its activations between submodules", BranchBetweenModules, True),
    _manner("convergence", "repeats a submodule until its output changes little", Converging, True),
    _manner("item-of-input", "divides by float(x.abs().max())", ScaledByPeak),
    _manner("selected-rows", "sends the rows that a mask selects through a submodule", SelectedRows, True),
    _manner("python-random", "asks Python's random for a number", PythonRandom, chance=True),
    _manner("autograd-grad", "calls torch.autograd.grad in forward", GradientInside),
)
