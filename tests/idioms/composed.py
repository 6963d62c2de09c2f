"""Models that are put together from scripted, compiled, quantised, hooked and checkpointed parts."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from tests.idioms.idiom import PER_SUBMODULE, UNTOUCHED, WHOLE, Arguments, Manner, inputs, seeded

__all__ = ["MANNERS"]


def _gated(x: Tensor, gate: Tensor, slope: float) -> Tensor:
    positive = torch.where(x > 0, x, slope * x)
    return positive * torch.sigmoid(gate)


def _scripted(function: Callable[..., Any]) -> Callable[..., Any]:
    with warnings.catch_warnings():  # scripting is deprecated, and in a great deal of code
        warnings.simplefilter("ignore")
        return cast("Callable[..., Any]", torch.jit.script(function))


_gated_scripted = _scripted(_gated)


class ScriptedHelper(nn.Module):
    """Its activation is a function under ``torch.jit.script``."""

    def __init__(self, width: int = 5) -> None:
        super().__init__()
        self.value = nn.Linear(width, width)
        self.gate = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Any:
        return _gated_scripted(self.value(x), self.gate(x), 0.1)


class Around(nn.Module):
    """A part between two layers."""

    def __init__(self, part: nn.Module, width: int = 5) -> None:
        super().__init__()
        self.enter = nn.Sequential(nn.Linear(width, width), nn.ReLU())
        self.part = part
        self.leave = nn.Sequential(nn.Linear(width, width), nn.Tanh())

    def forward(self, x: Tensor) -> Any:
        return self.leave(self.part(self.enter(x)))


class Residual(nn.Module):
    """A layer that can be scripted and compiled."""

    def __init__(self, width: int = 5) -> None:
        super().__init__()
        self.fc = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.sigmoid(self.fc(x))


def _with_scripted_part() -> nn.Module:
    return Around(cast("nn.Module", _scripted(Residual().double())))


def _with_compiled_part() -> nn.Module:
    return Around(cast("nn.Module", torch.compile(Residual(), backend="eager")))


class QuantisedHead(nn.Module):
    """The head was quantised dynamically, so that it takes float32."""

    def __init__(self, width: int = 5) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(width, width), nn.Tanh(), nn.Linear(width, width))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.head = torch.ao.quantization.quantize_dynamic(  # type: ignore[no-untyped-call]
                nn.Sequential(nn.Linear(width, 3)), {nn.Linear}, dtype=torch.qint8
            )

    def forward(self, x: Tensor) -> Any:
        return self.head(self.body(x).float())


class OnMeta(nn.Module):
    """A layer on the meta device that nobody has filled yet."""

    def __init__(self, width: int = 5) -> None:
        super().__init__()
        self.fc = nn.Linear(width, width, device="meta")

    def forward(self, x: Tensor) -> Tensor:
        return cast("Tensor", self.fc(x)) + x


def _doubled(module: nn.Module, args: object, output: Tensor) -> Tensor:
    del module, args
    return 2 * output


def _centred(module: nn.Module, args: tuple[Tensor]) -> tuple[Tensor]:
    del module
    return (args[0] - args[0].mean(-1, keepdim=True),)


def _net(width: int = 5) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 2))


def _with_hook() -> nn.Module:
    model = _net()
    model[1].register_forward_hook(_doubled)
    return model


def _with_pre_hook() -> nn.Module:
    model = _net()
    model[2].register_forward_pre_hook(_centred)
    return model


def _with_feature_hook() -> nn.Module:
    model = _net()
    features: dict[str, Tensor] = {}
    # The attribute is for the comparison; people keep the dictionary in a variable of their script.
    model.features = cast("Any", features)

    def keep(module: nn.Module, args: object, output: Tensor) -> None:
        del module, args
        features["hidden"] = output

    model[1].register_forward_hook(keep)
    return model


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, sharpness: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.sharpness = sharpness
        return torch.sign(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        return gradient * torch.exp(-ctx.sharpness * x * x), None


class OwnGradient(nn.Module):
    """Binary activations with a gradient of its own."""

    def __init__(self, width: int = 5) -> None:
        super().__init__()
        self.fc = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        binary: Tensor = _StraightThrough.apply(self.fc(x), 2.0)  # type: ignore[no-untyped-call]
        return binary * x


class TensorHook(nn.Module):
    """Reverses the gradient of its features by a hook on the tensor."""

    def __init__(self, width: int = 5) -> None:
        super().__init__()
        self.features = nn.Linear(width, width)
        self.domain = nn.Linear(width, 2)

    def forward(self, x: Tensor) -> Any:
        hidden = torch.tanh(self.features(x))
        if hidden.requires_grad:
            hidden.register_hook(lambda gradient: -0.5 * gradient)  # type: ignore[no-untyped-call]
        return self.domain(hidden)


class Checkpointed(nn.Module):
    """Recomputes its body in the backward pass.

    Args:
        reentrant: which of the two implementations.
    """

    def __init__(self, reentrant: bool, width: int = 5) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))
        self.reentrant = reentrant

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            hidden: Tensor = checkpoint(self.body, x, use_reentrant=self.reentrant)
        else:
            hidden = self.body(x)
        return F.relu(hidden) + x


def _no_change(model: nn.Module) -> None:
    del model


def _on_meta(batch: int) -> Arguments:
    return inputs(5)(batch)


MANNERS = (
    Manner("scripted-helper", "calls a @torch.jit.script function", seeded(ScriptedHelper), inputs(5), WHOLE),
    Manner(
        "scripted-submodule",
        "contains a module under torch.jit.script",
        seeded(_with_scripted_part),
        inputs(5),
        PER_SUBMODULE,
    ),
    Manner(
        "compiled-submodule",
        "contains a module under torch.compile",
        seeded(_with_compiled_part),
        inputs(5),
        WHOLE,
    ),
    Manner(
        "quantised-submodule",
        "contains a dynamically quantised Linear",
        seeded(QuantisedHead),
        inputs(5),
        PER_SUBMODULE,
        trains=False,
    ),
    Manner(
        "meta-device",
        "has a layer on the meta device and fails like eager",
        seeded(OnMeta),
        _on_meta,
        UNTOUCHED,
        keep=_no_change,
    ),
    Manner("forward-hook", "doubles an activation in a forward hook", seeded(_with_hook), inputs(5), WHOLE),
    Manner("forward-pre-hook", "centres an argument in a forward pre-hook", seeded(_with_pre_hook), inputs(5), WHOLE),
    Manner(
        "feature-hook",
        "stores an activation in a dictionary from a forward hook",
        seeded(_with_feature_hook),
        inputs(5),
        WHOLE,
        effects=("features.hidden",),
    ),
    Manner(
        "own-autograd-function",
        "uses an autograd.Function whose backward is not the derivative",
        seeded(OwnGradient),
        inputs(5),
        WHOLE,
    ),
    Manner(
        "gradient-hook", "reverses a gradient by register_hook on an activation", seeded(TensorHook), inputs(5), WHOLE
    ),
    Manner(
        "checkpoint-reentrant",
        "checkpoints its body with use_reentrant=True in training",
        seeded(lambda: Checkpointed(True)),
        inputs(5),
        WHOLE,
    ),
    Manner(
        "checkpoint-non-reentrant",
        "checkpoints its body with use_reentrant=False in training",
        seeded(lambda: Checkpointed(False)),
        inputs(5),
        WHOLE,
    ),
)
