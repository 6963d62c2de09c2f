"""Models that keep or treat their parameters in unusual ways."""

from __future__ import annotations

import warnings
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize

from tests.idioms.idiom import UNTOUCHED, WHOLE, Manner, inputs, positions, seeded

__all__ = ["MANNERS"]


def _parameter(*sizes: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(*sizes, dtype=torch.float64))


class InList(nn.Module):
    """Weights in a plain list, which nothing registers."""

    def __init__(self, width: int = 5, layers: int = 3) -> None:
        super().__init__()
        self.weights = [_parameter(width, width) for _ in range(layers)]
        self.head = nn.Linear(width, 2)

    def forward(self, x: Tensor) -> Any:
        for weight in self.weights:
            x = torch.tanh(x @ weight)
        return self.head(x)


class InDictionary(nn.Module):
    """Weights in a dictionary of tuples."""

    def __init__(self, width: int = 5) -> None:
        super().__init__()
        self.weights = {name: (_parameter(width, width), _parameter(width)) for name in ("up", "down")}

    def forward(self, x: Tensor) -> Tensor:
        for weight, bias in self.weights.values():
            x = F.silu(F.linear(x, weight, bias))
        return x


class DataRead(nn.Module):
    """Uses a copy of its weight's data beside the weight itself."""

    def __init__(self, width: int = 5) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(width, width))

    def forward(self, x: Tensor) -> Tensor:
        frozen = self.weight.data.clone()
        frozen.fill_diagonal_(0.0)
        return x @ self.weight + torch.sigmoid(x @ frozen)


class DataClamped(nn.Module):
    """Keeps its weight within bounds at every call."""

    def __init__(self, width: int = 5) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(width, width))

    def forward(self, x: Tensor) -> Tensor:
        self.weight.data.clamp_(-0.8, 0.8)
        return torch.tanh(x @ self.weight)


class DataAssigned(nn.Module):
    """Rescales rows that are too long by assigning to ``.data``."""

    def __init__(self, width: int = 5) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(width, width))

    def forward(self, x: Tensor) -> Tensor:
        norms = self.weight.data.norm(dim=1, keepdim=True)
        self.weight.data = self.weight.data / norms.clamp(min=1.0)
        return x @ self.weight.t()


class DataOfInput(nn.Module):
    """Edits a copy of the input's data."""

    def __init__(self, width: int = 5) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(width))

    def forward(self, x: Tensor) -> Tensor:
        reference = x.data.clone()
        reference[:, 0] = 0
        reference[reference < -1] = -1
        return (x - reference) * self.weight + reference


class InPlaceKernel(nn.Module):
    """Shapes a generated kernel by products and quotients in place."""

    grid: Tensor

    def __init__(self, channels: int = 3, size: int = 7) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(1, 6), nn.Tanh(), nn.Linear(6, channels))
        self.register_buffer("grid", positions(size).unsqueeze(-1))

    def forward(self, x: Tensor) -> Tensor:
        kernel = self.net(self.grid).t().unsqueeze(1)
        window = torch.exp(-2 * self.grid.squeeze(-1) ** 2)
        kernel *= window
        kernel /= kernel.detach().abs().sum(-1, keepdim=True)
        kernel[..., 0] *= 0.5
        return F.conv1d(x, kernel, padding="same", groups=x.shape[1])


class SharedModule(nn.Module):
    """One layer at two places."""

    def __init__(self, width: int = 5) -> None:
        super().__init__()
        self.layer = nn.Sequential(nn.Linear(width, width), nn.LayerNorm(width))
        self.again = self.layer

    def forward(self, x: Tensor) -> Any:
        return self.again(F.gelu(self.layer(x)))


class TiedParameters(nn.Module):
    """Decodes with the weight that it encodes with."""

    def __init__(self, width: int = 5) -> None:
        super().__init__()
        self.encode = nn.Linear(width, width, bias=False)
        self.decode = nn.Linear(width, width)
        self.decode.weight = self.encode.weight

    def forward(self, x: Tensor) -> Any:
        return self.decode(torch.relu(self.encode(x)))


class Symmetric(nn.Module):
    """A parametrisation: symmetric, with a positive diagonal."""

    def forward(self, weight: Tensor) -> Tensor:
        return weight.triu(1) + weight.triu(1).transpose(-1, -2) + torch.diag(weight.diagonal().exp())


def _custom_parametrization() -> nn.Module:
    model = nn.Sequential(nn.Linear(5, 5), nn.Tanh())
    parametrize.register_parametrization(model[0], "weight", Symmetric())
    return model


def _old_weight_norm() -> nn.Module:
    with warnings.catch_warnings():  # it is deprecated, and in a great deal of code
        warnings.simplefilter("ignore")
        return nn.Sequential(
            nn.utils.weight_norm(nn.Conv1d(3, 4, 3, padding=1)), nn.ReLU(), nn.utils.weight_norm(nn.Conv1d(4, 2, 1))
        )


def _old_spectral_norm() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return nn.Sequential(nn.utils.spectral_norm(nn.Linear(5, 5)), nn.ReLU())


def _weight_norm() -> nn.Module:
    return nn.Sequential(parametrizations.weight_norm(nn.Linear(5, 7)), nn.GELU(), nn.Linear(7, 2))


def _spectral_norm() -> nn.Module:
    return nn.Sequential(parametrizations.spectral_norm(nn.Linear(5, 7)), nn.ReLU(), nn.Linear(7, 2))


def _listed(model: Any) -> None:
    with torch.no_grad():
        for weight in model.weights:
            weight.mul_(1.1)


def _replaced(model: Any) -> None:
    model.weights[1] = nn.Parameter(model.weights[1].detach().flip(0))


def _in_dictionary(model: Any) -> None:
    with torch.no_grad():
        model.weights["up"][0].mul_(1.1)


MANNERS = (
    Manner(
        "parameters-in-list",
        "keeps parameters in a plain Python list",
        seeded(InList),
        inputs(5),
        WHOLE,
        keep=_listed,
        change=_replaced,
        effects=("weights.0", "weights.1", "weights.2"),
    ),
    Manner(
        "parameters-in-dictionary",
        "keeps parameters in a dictionary of tuples",
        seeded(InDictionary),
        inputs(5),
        WHOLE,
        keep=_in_dictionary,
        effects=("weights.up.0", "weights.up.1", "weights.down.0", "weights.down.1"),
    ),
    Manner("data-read", "computes with weight.data.clone()", seeded(DataRead), inputs(5), WHOLE),
    Manner("data-clamped", "calls weight.data.clamp_() in forward", seeded(DataClamped), inputs(5), WHOLE),
    Manner(
        "data-assigned",
        "assigns a rescaled tensor to weight.data in forward",
        seeded(DataAssigned),
        inputs(5),
        UNTOUCHED,
    ),
    Manner("data-of-input", "edits x.data.clone() by indices and masks", seeded(DataOfInput), inputs(5), WHOLE),
    Manner(
        "in-place-kernel",
        "multiplies and divides a generated kernel in place, parts of it too",
        seeded(InPlaceKernel),
        inputs(3, 12),
        WHOLE,
    ),
    Manner("shared-module", "calls one module twice, under two names", seeded(SharedModule), inputs(5), WHOLE),
    Manner("tied-parameters", "uses one parameter in two layers", seeded(TiedParameters), inputs(5), WHOLE),
    Manner(
        "custom-parametrization",
        "registers its own parametrisation of a weight",
        seeded(_custom_parametrization),
        inputs(5),
        WHOLE,
    ),
    Manner("weight-norm-old", "uses torch.nn.utils.weight_norm", seeded(_old_weight_norm), inputs(3, 9), WHOLE),
    Manner(
        "weight-norm-new",
        "uses torch.nn.utils.parametrizations.weight_norm",
        seeded(_weight_norm),
        inputs(5),
        WHOLE,
    ),
    Manner(
        "spectral-norm-old",
        "uses torch.nn.utils.spectral_norm, which updates buffers in training",
        seeded(_old_spectral_norm),
        inputs(5),
        WHOLE,
    ),
    Manner(
        "spectral-norm-new",
        "uses torch.nn.utils.parametrizations.spectral_norm",
        seeded(_spectral_norm),
        inputs(5),
        WHOLE,
    ),
)
