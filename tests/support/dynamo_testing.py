"""What the tests of ``torch.compile(model, backend="tzwc")`` share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

import tzwc.dynamo
from tests.support.programs import HyperConv
from tzwc.dynamo import CompiledGraph

__all__ = ["close", "compiled_graphs", "gradients", "hyper", "left_over", "remarks", "through_dynamo"]

left_over: list[CompiledGraph] = []
"""Graphs of earlier tests: Dynamo keeps code that follows a graph break for ever."""

# A backend may add roundings where a pass changes the order of operations: a few dozen, relative to the largest value.
_ROUNDINGS = 64


def compiled_graphs() -> list[CompiledGraph]:
    """Those of the running test."""
    return [graph for graph in tzwc.dynamo.compiled_graphs() if graph not in left_over]


def close(found: Tensor, expected: Tensor) -> None:
    peak = max(1.0, expected.detach().abs().max().item()) if expected.numel() else 1.0
    bound = _ROUNDINGS * torch.finfo(expected.dtype).eps * peak
    torch.testing.assert_close(found, expected, rtol=0, atol=bound)


def through_dynamo(model: Any, inner: Any = "aot_eager", *, options: dict[str, Any] | None = None, **more: Any) -> Any:
    return torch.compile(model, backend="tzwc", options={"backend": inner, **(options or {})}, **more)


def hyper() -> HyperConv:
    torch.manual_seed(0)
    return HyperConv().double().eval()


def gradients(model: nn.Module, run: Callable[..., Tensor], *inputs: Tensor) -> list[Tensor]:
    model.zero_grad()
    given = [x.detach().clone().requires_grad_() for x in inputs]
    result = run(*given)
    result.square().sum().backward()
    found = [result.detach(), *(x.grad for x in given), *(p.grad for p in model.parameters())]
    return [g.clone() for g in found if g is not None]


def remarks() -> list[str]:
    return [remark.reason for graph in compiled_graphs() for remark in graph.remarks]
