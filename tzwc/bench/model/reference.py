"""What ``tzwc bench model`` judges results and times by: the model in float64, and its arithmetic."""

from __future__ import annotations

import copy
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode, conv_flop_count

from tzwc._torch.fake_tensors import FakeCopyMode, FakeTensorMode
from tzwc.bench.model.targets import Subject

__all__ = ["ALLOWED", "Arithmetic", "Reference", "arithmetic"]

ALLOWED = 4.0
"""How many times eager's own error another float32 evaluation may have, as in ``tzwc verify`` and ``tzwc demo``: two
roundings of one formula differ by chance, not in kind."""


@dataclass(frozen=True)
class Reference:
    """Results of the model in float64, by name, and how far from them eager's float32 is.

    Attributes:
        exact: the output, or the gradient of every parameter in the first step.
        eager: :meth:`distances` of eager's.
    """

    exact: Mapping[str, Tensor]
    eager: Mapping[str, float]

    @classmethod
    def of(cls, target: str, batch: int, training: bool, precision: str = "float32") -> Reference:
        """Evaluate the model twice: in float64 and in ``precision``."""
        wide = Subject(target, batch, training).to(torch.float64)
        exact = {name: found.detach() for name, found in wide.results(wide.call(wide.model)()).items()}
        narrow = Subject(target, batch, training, precision=precision)
        return cls(exact, cls(exact, {}).distances(narrow.results(narrow.call(narrow.model)())))

    @property
    def allowed(self) -> dict[str, float]:
        """The largest distances that rounding explains: multiples of eager's, or of one rounding where that is more."""
        return {name: ALLOWED * max(torch.finfo(torch.float32).eps, own) for name, own in self.eager.items()}

    def distances(self, found: Mapping[str, Tensor]) -> dict[str, float]:
        """How far results are from float64.

        Returns:
            ``"all"``: the length of the difference of all results together, as a part of their length; and for
            gradients ``"each"``, the median over the parameters of the same of a single one. A single gradient may be
            nothing but rounding in float32: many are zero in exact arithmetic. What is missing or not a number is
            infinitely far away.
        """
        parts = []
        for name, expected in self.exact.items():
            parts.append((_difference(found.get(name), expected), _length(expected)))
        together = _quotient(math.hypot(*(part for part, _ in parts)), math.hypot(*(whole for _, whole in parts)))
        if len(parts) == 1:
            return {"all": together}
        return {"all": together, "each": statistics.median(_quotient(*part) for part in parts)}

    def save(self, path: Path) -> None:
        """Write it for another process."""
        torch.save({"exact": dict(self.exact), "eager": dict(self.eager)}, path)

    @classmethod
    def load(cls, path: Path) -> Reference:
        """Read what :meth:`save` has written."""
        return cls(**torch.load(path))


def _difference(found: Tensor | None, expected: Tensor) -> float:
    if found is None or found.shape != expected.shape:
        return math.inf
    return _length(found.to(expected.device, torch.float64) - expected)


def _length(tensor: Tensor) -> float:
    length: float = torch.linalg.vector_norm(tensor.detach()).item()
    return math.inf if math.isnan(length) else length


def _quotient(part: float, whole: float) -> float:
    return part / whole if whole else part


@dataclass(frozen=True)
class Arithmetic:
    """Floating-point operations of one call of the eager model, as ``torch.utils.flop_counter`` counts them.

    That is two for every multiplication with addition in a product or a convolution, convolutions done directly, and
    none for anything else.

    Attributes:
        total: of a call.
        growing: those that a call of twice the batch has more: without the static networks, in inference.
    """

    total: int
    growing: int


def arithmetic(target: str, batch: int, training: bool) -> Arithmetic:
    """Count with fake tensors: nothing is computed."""
    total = _count(target, batch, training)
    return Arithmetic(total, _count(target, 2 * batch, training) - total)


def _count(target: str, batch: int, training: bool) -> int:
    fake = FakeTensorMode()
    with FakeCopyMode(fake):
        subject = copy.deepcopy(Subject(target, batch, training))
    counting = FlopCounterMode(display=False, custom_mapping={torch.ops.aten.convolution_backward: _backward})
    with fake, counting as counter:
        subject.call(subject.model)()
    count: int = counter.get_total_flops()
    return count


def _backward(grad: Sequence[int], x: Sequence[int], weight: Sequence[int], *rest: Any, **_: Any) -> int:
    """Each of the two gradients takes what the forward takes; PyTorch's own count passes over groups."""
    transposed, output_mask = rest[4], rest[7]
    flops: int = sum(output_mask[:2]) * conv_flop_count(list(x), list(weight), list(grad), transposed)
    return flops
