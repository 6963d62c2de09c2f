"""A captured graph from its JSON form, moved to the GPU, rewritten and split as ``tzwc.compile`` would there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import fx
from torch.fx.experimental.symbolic_shapes import ShapeEnv

from tzwc._torch.fake_tensors import FakeTensorMode
from tzwc.cross_compile.worker.devices import GPU, empty, like, move_arguments
from tzwc.errors import TzwcError
from tzwc.inspection import graph_from_dict
from tzwc.ir.graph import infer
from tzwc.ir.remarks import Remark
from tzwc.ir.values import TensorInfo
from tzwc.lowering.gpu import use_kernels
from tzwc.lowering.gpu.target import Target
from tzwc.partition.partitioner import Split, split
from tzwc.passes import by_name
from tzwc.rewrite.pass_manager import run_pipeline

__all__ = ["new_mode", "rebuild"]


def rebuild(job: Mapping[str, Any], mode: FakeTensorMode, target: Target) -> tuple[Split, list[Remark]]:
    """The static and residual parts of the graph in ``job``, with fake values on the GPU, and what passes said.

    Args:
        job: what :mod:`tzwc.cross_compile.job` writes.
        mode: makes the fake values.
        target: the GPU, for which kernels of our own are chosen.

    Raises:
        TzwcError: an operator cannot be traced on the GPU.
    """
    graph = graph_from_dict(job["graph"])
    module = graph.owning_module
    assert module is not None
    _move(graph, module, mode)
    gradients = frozenset(job["gradients"])
    slots = {slot["name"]: slot["path"] for slot in job["slots"]}
    stages = run_pipeline(
        module,
        [by_name(name) for name in job["passes"]],
        options=dict(job["options"]),
        static_slots=frozenset(slots) - gradients,
        slots=slots,
        snapshots=False,
    )
    parts = split(module, list(slots), job["inputs"])
    if not job["plain"]:
        use_kernels(parts.residual, target)
    for node in parts.residual.graph.nodes:
        # Lowering hands this on to every node that it makes of this one.
        node.meta["custom"] = {**(node.meta.get("custom") or {}), "tzwc_node": node.name}
    return parts, [remark for stage in stages for remark in stage.remarks]


def new_mode() -> FakeTensorMode:
    """A fake-tensor mode, with the shape environment without which Inductor does not cache."""
    return FakeTensorMode(shape_env=ShapeEnv(), allow_non_fake_inputs=True)


def _move(graph: fx.Graph, module: fx.GraphModule, mode: FakeTensorMode) -> None:
    for node in graph.nodes:
        if node.op == "placeholder":
            node.meta["val"] = _fake(node, mode)
        elif node.op == "get_attr":
            node.meta["val"] = like(getattr(module, str(node.target)), GPU, mode)
        elif node.op == "call_function":
            move_arguments(node, GPU)
            try:
                node.meta["val"] = infer(node)
            except Exception as error:
                raise TzwcError(f"{node.target} cannot be traced on a GPU: {error}") from error


def _fake(node: fx.Node, mode: FakeTensorMode) -> torch.Tensor:
    info = node.meta["tzwc_value"]
    if not isinstance(info, TensorInfo) or info.stride is None or not all(isinstance(n, int) for n in info.shape):
        raise TzwcError(f"the input {node.name} is {info}: only dense tensors of known sizes can be lowered")
    shape, stride = [int(n) for n in info.shape], [int(n) for n in info.stride]
    return empty(shape, stride, getattr(torch, info.dtype), GPU, mode)
