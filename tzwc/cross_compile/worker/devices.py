"""Move graphs between devices: what they say of devices, and the fake values of their nodes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx

from tzwc._torch import pytree
from tzwc._torch.fake_tensors import FakeTensorMode

__all__ = ["CPU", "GPU", "empty", "like", "move_arguments", "move_values"]

CPU = torch.device("cpu")
GPU = torch.device("cuda", 0)


def move_arguments(node: fx.Node, device: torch.device) -> None:
    """Let ``node`` name ``device`` wherever it names one."""
    node.args, node.kwargs = _moved(node.args, device), _moved(node.kwargs, device)


def _moved(argument: Any, device: torch.device) -> Any:
    if isinstance(argument, torch.device):
        return device
    if isinstance(argument, (tuple, list)):
        return type(argument)([_moved(item, device) for item in argument])
    if isinstance(argument, dict):
        return {key: _moved(value, device) for key, value in argument.items()}
    return argument


def move_values(graph: fx.Graph, device: torch.device, mode: FakeTensorMode) -> None:
    """Let every fake value of ``graph`` be on ``device``."""
    for node in graph.nodes:
        move_arguments(node, device)
        if "val" in node.meta:
            node.meta["val"] = pytree.tree_map_only(Tensor, lambda t: like(t, device, mode), node.meta["val"])


def like(tensor: Tensor, device: torch.device, mode: FakeTensorMode) -> Tensor:
    """A fake tensor on ``device`` with the sizes, strides and element type of ``tensor``."""
    return empty(tensor.shape, tensor.stride(), tensor.dtype, device, mode)


def empty(
    shape: Sequence[int], stride: Sequence[int], dtype: torch.dtype, device: torch.device, mode: FakeTensorMode
) -> Tensor:
    """A fake tensor."""
    with mode:
        return torch.empty_strided(list(shape), list(stride), dtype=dtype, device=device)
