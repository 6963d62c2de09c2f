"""A module and its compiled twin, and modules that are easily captured wrongly."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

import tzwc
from tzwc.runtime.compiled_module import CompiledModule

X = torch.linspace(-1, 2, 4 * 6, dtype=torch.float64).reshape(4, 6)


class Written(nn.Module):
    """A forward given as a function of the module and its arguments, with attributes by keyword."""

    def __init__(self, function: Callable[..., Any], **attributes: Any) -> None:
        super().__init__()
        self.function = function
        self.weight = nn.Parameter(torch.linspace(-1, 1, 6, dtype=torch.float64))
        self.register_buffer("state", torch.linspace(0, 1, 6, dtype=torch.float64))
        for name, value in attributes.items():
            setattr(self, name, value)

    def forward(self, x: Tensor, *more: Any) -> Any:
        return self.function(self, x, *more)


def pair(function: Callable[..., Any], **attributes: Any) -> tuple[CompiledModule, Written]:
    model = Written(function, **attributes)
    return tzwc.compile(copy.deepcopy(model), backend="eager"), model


class Hundred(torch.autograd.Function):
    """Its backward is not its derivative, so that a lost one shows."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        del ctx
        return 2 * x

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        del ctx
        return 100 * gradient
