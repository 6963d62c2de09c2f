"""Notes what Inductor generates: the module's code, every launch in order, and the nodes that each one computes."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import torch
from torch import fx
from torch._inductor import ir
from torch._inductor.codegen.triton import TritonScheduling
from torch._inductor.codegen.wrapper import PythonWrapperCodegen
from torch._inductor.graph import GraphLowering
from torch._inductor.scheduler import BaseSchedulerNode, ExternKernelSchedulerNode, Scheduler

from tzwc._torch import pytree
from tzwc._torch.operators import OpOverload
from tzwc.cross_compile.worker.arithmetic import (
    dot_bytes,
    dot_flops,
    extern_bytes,
    extern_flops,
    kernel_bytes,
    transform_passes,
    unread_bytes,
)
from tzwc.ir.graph import location
from tzwc.lowering.gpu import fused_dot

__all__ = ["Recorder", "recording"]

Call = Callable[[list[Any]], Any]


@dataclass
class Recorder:
    """What one lowering generated.

    Attributes:
        residual: the graph that is lowered, by node name.
        run: makes the callable for a generated module, from its code and the kernels' sources.
        modules: one dictionary for each generated module: ``name``, ``code``, ``launches``.
    """

    residual: Mapping[str, fx.Node]
    run: Callable[[str, str], Call]
    modules: list[dict[str, Any]] = field(default_factory=list)
    launches: list[dict[str, Any]] = field(default_factory=list)

    def origins(self, nodes: Sequence[fx.Node]) -> list[dict[str, Any]]:
        """Name, operator and place of the residual graph's nodes behind those of Inductor's graph."""
        found: dict[str, dict[str, Any]] = {}
        for node in nodes:
            name = (node.meta.get("custom") or {}).get("tzwc_node")
            source = self.residual.get(str(name), node)
            if source.op != "placeholder":
                where = location(source)
                found.setdefault(
                    source.name,
                    {
                        "node": source.name,
                        "operator": str(source.target),
                        "module_path": where.module_path,
                        "file": where.file,
                        "line": where.line,
                    },
                )
        return list(found.values())


@contextmanager
def recording(recorder: Recorder) -> Iterator[None]:
    """Let ``recorder`` see everything that Inductor generates inside the block, which then is not compiled."""

    own: list[str] = []

    def define_kernel(original: Any, self: Any, source: str, schedule: Any, kernel: Any) -> Any:
        name = original(self, source, schedule, kernel)
        nodes: list[Any] = [
            node for item in schedule if isinstance(item, BaseSchedulerNode) for node in item.get_nodes()
        ]
        origins = {origin for node in nodes if node.node is not None for origin in node.node.origins}
        parts = getattr(kernel, "sub_kernels", [kernel])  # several next to each other, such as the copies of a `cat`
        recorder.launches.append(
            {
                "kernel": str(name),
                "kind": "triton",
                "bytes": sum(map(kernel_bytes, parts)),
                "elements": sum(map(_elements, parts)) // len(parts),  # the source holds the operations of all
                "dtype": "",
                "launches": 1,
                "flops": 0,
                "origins": recorder.origins(sorted(origins, key=str)),
            }
        )
        return name

    def define_own(original: Any, self: Any, *args: Any, **kwargs: Any) -> Any:
        entry = original(self, *args, **kwargs)
        own.append(str(entry[0]))
        return entry

    def codegen_extern_call(original: Any, self: Any, item: Any) -> None:
        original(self, item)
        if isinstance(item, ExternKernelSchedulerNode) and not isinstance(item.node, ir.MultiOutput):
            used = isinstance(item.node, ir.UserDefinedTritonKernel)
            record = _own(item, own[-1], recorder) if used else _extern(item, recorder)
            if record is not None:
                recorder.launches.append(record)

    def compile_to_module(self: GraphLowering) -> Any:
        recorder.launches = []
        generated, _ = self.codegen()
        code = generated.value
        name = "backward" if self.is_backward else "inference" if self.is_inference else "forward"
        recorder.modules.append({"name": name, "code": code, "launches": recorder.launches})
        return SimpleNamespace(call=recorder.run(name, code), __file__=f"<{name}>", runner=None)

    with (
        _patched(TritonScheduling, "define_kernel", define_kernel),
        _patched(PythonWrapperCodegen, "define_user_defined_triton_kernel", define_own),
        _patched(Scheduler, "codegen_extern_call", codegen_extern_call),
        _patched(GraphLowering, "compile_to_module", lambda _, self: compile_to_module(self)),
    ):
        yield


@contextmanager
def _patched(owner: type, name: str, replacement: Callable[..., Any]) -> Iterator[None]:
    original = getattr(owner, name)

    @functools.wraps(original)
    def call(*args: Any, **kwargs: Any) -> Any:
        return replacement(original, *args, **kwargs)

    setattr(owner, name, call)
    try:
        yield
    finally:
        setattr(owner, name, original)


def _elements(kernel: Any) -> int:
    """Iterations of the kernel's loops, all axes together."""
    total = 1
    for size in kernel.numels.values():
        total *= int(size)
    return total


def _extern(item: ExternKernelSchedulerNode, recorder: Recorder) -> dict[str, Any] | None:
    """The record of a call into a library; ``None`` when it only renames memory."""
    node = item.node
    assert isinstance(node, ir.ExternKernel)
    origin = node.get_origin_node() or next(iter(sorted(node.origins, key=str)), None)
    overload = getattr(node, "op_overload", None)
    if isinstance(overload, OpOverload) and overload.is_view:
        return None
    values = _values(origin)
    dtype = next((str(v.dtype).removeprefix("torch.") for v in values if v.is_floating_point() or v.is_complex()), "")
    return {
        "kernel": str(node.python_kernel_name or type(node).__name__),
        "kind": "extern",
        "bytes": extern_bytes(origin, values) or int(item.get_read_write_buffers_sizes()) - unread_bytes(node.inputs),
        "elements": 0,
        "dtype": dtype,
        "launches": transform_passes(origin) or 1,
        "flops": extern_flops(origin, values) or int(item.estimate_flops() or 0),
        "origins": recorder.origins(sorted(node.origins, key=str)),
    }


def _own(item: ExternKernelSchedulerNode, name: str, recorder: Recorder) -> dict[str, Any]:
    """The record of a kernel of our own, whose bytes and operations follow from the sizes of its operands."""
    assert isinstance(item.node, ir.ExternKernel)
    origins = recorder.origins(sorted(item.node.origins, key=str))
    calls = [recorder.residual[o["node"]] for o in origins if o["node"] in recorder.residual]
    calls = [call for call in calls if call.target is fused_dot]
    names = {call.name for call in calls}
    return {
        "kernel": name,
        "kind": "triton",
        "bytes": sum(map(dot_bytes, calls)) or int(item.get_read_write_buffers_sizes()),
        "elements": 0,
        "dtype": "",
        "launches": 1,
        "flops": sum(map(dot_flops, calls)),
        "origins": [origin for origin in origins if origin["node"] in names] or origins,
    }


def _values(origin: fx.Node | None) -> list[torch.Tensor]:
    """Fake tensors of the arguments of a node, then its results."""
    if origin is None:
        return []
    arguments = [node.meta.get("val") for node in origin.all_input_nodes]
    leaves = pytree.tree_leaves([*arguments, origin.meta.get("val")])
    return [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]
