"""Does a contender notice that an optimiser has changed the parameters?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tzwc.bench.contenders import Call
from tzwc.errors import TzwcError

__all__ = ["Freshness", "freshness", "optimiser_step"]

_STEP = 0.1  # of a parameter's root mean square: a change that no rounding can be taken for
# A stale result misses the change of eager's result (ratio 1), a right one misses it by rounding alone: float32 and
# other convolution algorithms leave 1e-6 to 1e-4 of it. Anything in between would be neither, and none was seen.
_RIGHT = 0.05


@dataclass(frozen=True)
class Freshness:
    """A contender's results before and after a step, compared with eager's.

    Attributes:
        before: largest distance from eager before the step, as a part of how far the step moves eager's result.
        after: the same after the step.
    """

    before: float
    after: float

    @property
    def right_before(self) -> bool:
        """Whether the contender gives eager's result at all."""
        return self.before < _RIGHT

    @property
    def right_after(self) -> bool:
        """Whether it does so right after an optimiser step."""
        return self.after < _RIGHT


def freshness(call: Call, model: nn.Module, x: Tensor) -> Freshness:
    """Take an optimiser step on the parameters of ``model``, which ``call`` runs with, and compare.

    Raises:
        TzwcError: the step leaves eager's result where it was, so that nothing can be told.
    """
    with torch.no_grad():
        expected, found = model(x), call(x).clone()
        optimiser_step(model)
        moved_to, found_after = model(x), call(x)
    moved = _distance(moved_to, expected)
    if moved == 0.0:
        raise TzwcError("an optimiser step does not change the result of this model, so nothing can be stale")
    return Freshness(_distance(found, expected) / moved, _distance(found_after, moved_to) / moved)


def optimiser_step(model: nn.Module, kind: Callable[..., torch.optim.Optimizer] = torch.optim.SGD) -> None:
    """One step along random gradients, in place, by a tenth of every parameter's root mean square."""
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        scale = parameter.detach().square().mean().sqrt()
        parameter.grad = scale * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
    optimizer = kind(model.parameters(), lr=_STEP)
    optimizer.step()
    optimizer.zero_grad()


def _distance(a: Tensor, b: Tensor) -> float:
    return (a.double() - b.double()).abs().max().item()
