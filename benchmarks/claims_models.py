"""The contenders of ``claims.py``: Terminator with parts taken away, and baselines of the same number of parameters."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping

import torch
from einops import rearrange, reduce
from torch import Tensor, nn
from torch.nn import functional as F

from tzwc.data import Dataset
from tzwc.models import Terminator, TerminatorSpec
from tzwc.models.layers import batch_standardise, instance_standardise
from tzwc.training import Recipe, task

__all__ = ["ABLATIONS", "BASELINES", "LOW_FREQUENCY", "Contender", "contender"]

_BRANCHES = ("out", "fast", "out_x", "out_h", "glu", "hyp", "l1", "l2", "l3", "l4")
ABLATIONS = (
    "low frequency",
    "no slow loss",
    "tiled slow loss",
    "batch only",
    "instance only",
    *(f"no {name}" for name in _BRANCHES),
    "no local",
    "AdamW",
)
LOW_FREQUENCY = 0.5
"""With it, kernels on 8 points an axis vary so slowly that they can be sampled: about two periods an axis."""

BASELINES = ("residual CNN", "CKConv", "MLP")


@dataclasses.dataclass(frozen=True)
class Contender:
    """A model, and how it is trained."""

    model: nn.Module
    recipe: Recipe


def contender(name: str, data: Dataset, epochs: int, seed: int, blocks: int) -> Contender:
    """The contender ``name`` for ``data``: Terminator, one of the baselines, or a Terminator that lacks a part.

    The Terminator has the first ``blocks`` blocks of the task's own.
    """
    base = task(data.name)
    spec = dataclasses.replace(base.spec, factors=base.spec.factors[:blocks], skips=None)
    common = {"epochs": epochs, "seed": seed, "warm_up": 1, "crop": 0, "flip": False}
    recipe = dataclasses.replace(base.recipe, **common)
    adamw = dataclasses.replace(recipe, optimizer="AdamW", optimizer_options={}, lr=2e-3)
    torch.manual_seed(seed)
    if name in BASELINES:
        budget = _parameters(Terminator(spec))
        torch.manual_seed(seed)
        plain = dataclasses.replace(adamw, slow_loss=None, norm_penalty=0.0, optimizer_options={"weight_decay": 0.01})
        return Contender(_as_large_as(budget, _MAKERS[name], data), plain)
    model = Terminator(_without(name, spec))
    if name in ("batch only", "instance only"):
        for block in model.blocks:
            block.standardise = Standardisation(batch=name == "batch only")
    if name == "no slow loss":
        recipe = dataclasses.replace(recipe, slow_loss=None)
    if name == "tiled slow loss":
        recipe = dataclasses.replace(recipe, slow_loss="tile")
    return Contender(model, adamw if name == "AdamW" else recipe)


def _without(name: str, spec: TerminatorSpec) -> TerminatorSpec:
    """The declaration without the branch that ``name`` says is missing; what only that branch needed goes too."""
    if name == "low frequency":
        nets = ("global_net", "local_net", "interaction_spatial_net")
        slow = {net: dataclasses.replace(getattr(spec, net), omega_0=LOW_FREQUENCY) for net in nets}
        return dataclasses.replace(spec, **slow)
    if name == "no local":
        gone = {branch.name for branch in spec.local}
        return dataclasses.replace(spec, local=(), concat=tuple(b for b in spec.concat if b not in gone), skips=None)
    if name.removeprefix("no ") in _BRANCHES:
        missing = name.removeprefix("no ")
        local = tuple(branch for branch in spec.local if branch.name != missing)
        concat = tuple(b for b in spec.concat if b != missing)
        return dataclasses.replace(spec, local=local, concat=concat, skips=None)
    return spec


class Standardisation(nn.Module):
    """One kind of standardisation for all channels, in place of G-IBS."""

    def __init__(self, *, batch: bool) -> None:
        super().__init__()
        self.batch = batch

    def forward(self, x: Tensor) -> Tensor:
        """``x`` and the result: ``(b c …)``."""
        return batch_standardise(x) if self.batch else instance_standardise(x)


class Classifier(nn.Module):
    """A stem, blocks, the mean over the grid, and a linear head."""

    def __init__(self, stem: nn.Module, blocks: Iterable[nn.Module], head: nn.Module) -> None:
        super().__init__()
        self.stem = stem
        self.blocks = nn.Sequential(*blocks)
        self.head = head

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``(b classes)`` of ``x`` ``(b c …)``."""
        return self.head(reduce(self.blocks(self.stem(x)), "b c ... -> b c", "mean"))


class ResidualCNN(Classifier):
    """A stem, three residual blocks of two convolutions of three taps an axis, mean over the grid, a linear head."""

    def __init__(self, data: Dataset, width: int) -> None:
        conv = nn.Conv1d if len(data.grid) == 1 else nn.Conv2d
        stem = conv(data.channels, width, 3, padding=1)
        blocks = [ResidualBlock(len(data.grid), width) for _ in range(3)]
        super().__init__(stem, blocks, nn.Linear(width, data.classes))


class ResidualBlock(nn.Module):
    """``gelu(x + BN(conv(gelu(BN(conv(x))))))``."""

    def __init__(self, dims: int, width: int) -> None:
        super().__init__()
        conv, norm = (nn.Conv1d, nn.BatchNorm1d) if dims == 1 else (nn.Conv2d, nn.BatchNorm2d)
        self.first, self.second = (conv(width, width, 3, padding=1, bias=False) for _ in range(2))
        self.norm_1, self.norm_2 = norm(width), norm(width)

    def forward(self, x: Tensor) -> Tensor:
        """``x`` and the result: ``(b width …)``."""
        inner = F.gelu(self.norm_1(self.first(x)))
        return F.gelu(x + self.norm_2(self.second(inner)))


class CKConv(Classifier):
    """Blocks of a depthwise convolution as long as the grid, its kernel a function of coordinates, and 1×1 mixers.

    In the manner of CKConv and CCNN (arXiv 2102.02611, 2206.03398): the kernel is a sine network of relative
    positions. Three residual blocks.
    """

    def __init__(self, data: Dataset, width: int) -> None:
        conv = nn.Conv1d if len(data.grid) == 1 else nn.Conv2d
        stem = conv(data.channels, width, 1)
        blocks = [CKBlock(data.grid, width) for _ in range(3)]
        super().__init__(stem, blocks, nn.Linear(width, data.classes))


class CKBlock(nn.Module):
    """``x + W_2 gelu(W_1 BN(K ∗ x))``, ``K`` written by a sine network with 32 hidden channels."""

    coordinates: Tensor

    def __init__(self, grid: tuple[int, ...], width: int) -> None:
        super().__init__()
        dims = len(grid)
        conv, norm = (nn.Conv1d, nn.BatchNorm1d) if dims == 1 else (nn.Conv2d, nn.BatchNorm2d)
        axes = [torch.linspace(-1, 1, 2 * (size // 2) + 1) for size in grid]  # odd: a kernel has a centre
        self.register_buffer("coordinates", torch.stack(torch.meshgrid(*axes, indexing="ij"), -1), persistent=False)
        self.net = nn.ModuleList([nn.Linear(dims, 32), nn.Linear(32, 32), nn.Linear(32, width)])
        with torch.no_grad():
            self.net[0].weight.mul_(10.0)  # frequencies of up to about 10, as small images have them
            self.net[2].weight.mul_(math.sqrt(3 / math.prod(grid)))
        self.norm, self.first, self.second = norm(width), conv(width, width, 1), conv(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """``x`` and the result: ``(b width …)``."""
        hidden = self.coordinates
        for linear in list(self.net)[:-1]:
            hidden = torch.sin(linear(hidden))
        kernel = rearrange(self.net[-1](hidden), "... c -> c 1 ...")
        conv = F.conv1d if x.ndim == 3 else F.conv2d
        mixed = conv(x, kernel, padding=[size // 2 for size in kernel.shape[2:]], groups=x.shape[1])
        return x + self.second(F.gelu(self.first(self.norm(mixed))))


class MLP(nn.Module):
    """Two hidden layers on all values of a sample."""

    def __init__(self, data: Dataset, width: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            [nn.Sequential(nn.Linear(data.channels * math.prod(data.grid), width), nn.GELU()),
             nn.Sequential(nn.Linear(width, width), nn.GELU())]
        )  # fmt: skip
        self.head = nn.Linear(width, data.classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``(b classes)`` of ``x`` ``(b c …)``."""
        x = x.flatten(1)
        for block in self.blocks:
            x = block(x)
        return self.head(x)


_MAKERS: Mapping[str, Callable[[Dataset, int], nn.Module]] = {"residual CNN": ResidualCNN, "CKConv": CKConv, "MLP": MLP}


def _parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def _as_large_as(budget: int, make: Callable[[Dataset, int], nn.Module], data: Dataset) -> nn.Module:
    """The widest model of at most ``budget`` parameters."""
    with torch.device("meta"):
        fitting = [width for width in range(4, 512) if _parameters(make(data, width)) <= budget]
    return make(data, fitting[-1])
