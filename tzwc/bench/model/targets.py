"""The models of ``tzwc bench model``, and what one call of each is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

import torch
from torch import Tensor, nn

from tzwc.errors import InvalidArgumentError
from tzwc.models import PRESETS, terminator
from tzwc.models.losses import label_smoothing_cross_entropy
from tzwc.models.optim import Kar3
from tzwc.targets import InputSpec, default_inputs, resolve

__all__ = ["DEFAULT_PRESETS", "LONG", "MODES", "PRECISIONS", "Subject", "batches_of", "check_target"]

LONG: Final[Mapping[str, Any]] = {"sizes": (16_384,), "factors": (12, 3)}
"""What ``long`` changes in ``smnist``: a sequence of 16,384 points, and two blocks.

A global kernel is as long as the sequence, and eager convolves directly: all five blocks would take it minutes a call.
"""

MODES: Final = ("inference", "training")

PRECISIONS: Final = ("float32", "bfloat16")
"""float32, and autocast to bfloat16, as ``tzwc train --precision`` has them."""

DEFAULT_PRESETS: Final = ("cifar10", "smnist", "scifar10", "long")

_BATCHES: Final[Mapping[str, Mapping[str, tuple[int, ...]]]] = {
    "cifar10": {"inference": (1, 16, 64), "training": (16,)},
    "smnist": {"inference": (1, 16), "training": (16,)},
    "long": {"inference": (1,), "training": (1,)},
}
_BATCH: Final = (16,)
# Every sign step changes the bytes of most parameters, as training does, and a thousand of them move none by more than
# 3e-3: the model stays the one that the first call met.
_RATE: Final = 1e-6


def check_target(target: str) -> None:
    """Refuse what is neither a preset, nor ``long``, nor a Terminator as ``module:factory``.

    Raises:
        InvalidArgumentError: it is none of them.
    """
    if ":" in target:
        default_inputs(resolve(target))
    elif target not in PRESETS and target != "long":
        raise InvalidArgumentError(
            f"preset {target!r} is unknown: choose from {', '.join(PRESETS)}, long; or a Terminator as module:factory"
        )


def batches_of(target: str, mode: str) -> tuple[int, ...]:
    """The batch sizes at which ``target`` is measured unless others are asked for."""
    return _BATCHES.get(target, {}).get(mode, _BATCH)


class Subject:
    """A model with an input, the same ones in every process.

    Args:
        target: a preset, ``long``, or ``module:factory``.
        batch: first size of the input.
        training: a call is a training step, not an inference.
        device: of parameters and input, which are drawn on the CPU whatever it is.
        precision: one of :data:`PRECISIONS`.

    Attributes:
        model: in the mode of the call. Channels are never dropped: compilers draw other ones than eager.
    """

    def __init__(
        self, target: str, batch: int, training: bool, device: str = "cpu", precision: str = "float32"
    ) -> None:
        torch.manual_seed(0)
        self.model: nn.Module = terminator("smnist", **LONG) if target == "long" else resolve(target)
        self.model.to(device).train(training)
        for module in self.model.modules():
            if isinstance(module, (nn.Dropout, nn.Dropout1d, nn.Dropout2d)):
                module.p = 0.0
        (declared,) = default_inputs(self.model)
        shape = (batch, *declared.shape[1:])
        self.x = InputSpec(shape).make(torch.float32, torch.Generator().manual_seed(0)).to(device)
        self.training = training
        self._narrow = partial(torch.autocast, torch.device(device).type, torch.bfloat16, precision == "bfloat16")

    def to(self, kind: torch.dtype) -> Subject:
        """Convert model and input, in place, to an element type."""
        self.model.to(kind)
        self.x = self.x.to(kind)
        return self

    def call(self, module: Callable[[Tensor], Tensor]) -> Callable[[], Tensor]:
        """One call, as a function without arguments: the output, or the loss of a step.

        A step is forward, cross entropy, backward, and an update by Kar3.

        Args:
            module: :attr:`model`, or what a compiler has made of it.
        """
        if not self.training:
            return lambda: self._infer(module)
        optimiser = Kar3(self.model.parameters(), lr=_RATE)

        def step() -> Tensor:
            optimiser.zero_grad()
            with self._narrow():
                logits = module(self.x)
            logits = logits.to(self.x.dtype)
            labels = torch.arange(len(logits), device=logits.device) % logits.shape[1]
            loss = label_smoothing_cross_entropy(logits, labels)
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            return loss

        return step

    def results(self, returned: Tensor) -> dict[str, Tensor]:
        """What a call that has ``returned`` this is judged by: the output, or every parameter's gradient."""
        if not self.training:
            return {"output": returned}
        return {name: p.grad for name, p in self.model.named_parameters() if p.grad is not None}

    def _infer(self, module: Callable[[Tensor], Tensor]) -> Tensor:
        with torch.no_grad(), self._narrow():
            return module(self.x)
