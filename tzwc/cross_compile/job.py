"""A module's captured graph as a job for another process: JSON for the graph, tensors apart from it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tzwc._torch import pytree
from tzwc.api import compile as compile_module
from tzwc.cross_compile.process import LoweringError
from tzwc.errors import InvalidArgumentError
from tzwc.inspection import graph_to_dict
from tzwc.ir.pytree import unflatten_result
from tzwc.lowering.gpu.target import Target
from tzwc.options import CompileOptions
from tzwc.passes import DEFAULT_PASSES, by_name
from tzwc.rewrite.pass_manager import Pass
from tzwc.tracing.capture import Capture

__all__ = ["CapturedModel"]

_OPTIONS = ("cache_bytes", "convolution", "exact")


@dataclass(frozen=True)
class CapturedModel:
    """A module called with these inputs, as a graph.

    Attributes:
        model: class of the module.
        capture: the graph, without any pass.
        inputs: tensor leaves of the arguments, in order.
        graph: the graph as JSON-safe data.
        gradients: placeholders that need gradients; empty for inference.
    """

    model: str
    capture: Capture
    inputs: tuple[Tensor, ...]
    graph: Mapping[str, Any]
    gradients: tuple[str, ...]

    @classmethod
    def of(cls, model: nn.Module, inputs: Sequence[Any], *, train: bool) -> CapturedModel:
        """Capture ``model(*inputs)``, which runs once, on the CPU.

        Raises:
            InvalidArgumentError: a parameter or input is not on the CPU.
            LoweringError: the module cannot be captured as one graph; the message says why.
        """
        leaves = [leaf for leaf in pytree.tree_leaves(tuple(inputs)) if isinstance(leaf, Tensor)]
        for tensor in (*leaves, *model.parameters(), *model.buffers()):
            if tensor.device.type != "cpu":
                raise InvalidArgumentError(
                    f"a tensor of the model or its inputs is on {tensor.device}: move all to cpu"
                )
        fast = compile_module(model, passes=[], backend="eager", dynamic=False, tune="off")
        for _ in range(4):  # a module that initialises itself settles within a few calls
            with torch.set_grad_enabled(train):
                fast(*inputs)
            if fast.specialisations or fast.remarks[-1].rule != "settling":
                break
        if not fast.level.startswith("whole graph"):
            why = "; ".join(remark.reason for remark in fast.remarks)
            raise LoweringError(f"{type(fast.original).__name__} cannot be captured as one graph: {why}")
        capture = fast.specialisations[-1].captured
        needed = [slot.name for slot in capture.slots if slot.fetch().requires_grad]
        needed += [name for name, leaf in zip(capture.inputs, leaves, strict=True) if leaf.requires_grad]
        graph = graph_to_dict(capture.module.graph, capture.module)
        return cls(type(fast.original).__name__, capture, tuple(leaves), graph, tuple(needed if train else ()))

    def write_job(
        self,
        folder: Path,
        target: Target,
        *,
        passes: Sequence[str],
        options: Mapping[str, Any],
        plain: bool = False,
        binaries: bool = False,
    ) -> None:
        """Write ``job.json``; for the arguments see :func:`tzwc.lower`."""
        slots = [{"name": slot.name, "path": slot.path} for slot in self.capture.slots]
        job = {
            "target": target.name,
            "graph": self.graph,
            "slots": slots,
            "inputs": self.capture.inputs,
            "gradients": self.gradients,
            "passes": list(passes),
            # Nothing can be measured on a GPU that is not there.
            "options": {**options, "tune": "model", "grad": bool(self.gradients)},
            "plain": plain,
            "binaries": binaries,
        }
        (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")

    def write_tensors(self, folder: Path, inputs: Sequence[Any], cotangents: Sequence[Tensor], seed: int) -> None:
        """Write ``tensors.pt``: parameters and buffers as they are now, and these inputs.

        Raises:
            InvalidArgumentError: the inputs are not like those that the graph was made for.
        """
        leaves = [leaf for leaf in pytree.tree_leaves(tuple(inputs)) if isinstance(leaf, Tensor)]
        given = [(leaf.dtype, tuple(leaf.shape), leaf.stride()) for leaf in leaves]
        expected = [(leaf.dtype, tuple(leaf.shape), leaf.stride()) for leaf in self.inputs]
        if given != expected:
            raise InvalidArgumentError(
                f"inputs are {given}, the program was lowered for {expected}: lower it for these"
            )
        values = {slot.name: slot.fetch().detach() for slot in self.capture.slots}
        values |= {name: leaf.detach() for name, leaf in zip(self.capture.inputs, leaves, strict=True)}
        torch.save({"values": values, "cotangents": list(cotangents), "seed": seed}, folder / "tensors.pt")

    def results(self, folder: Path) -> tuple[Any, dict[str, Tensor]]:
        """What ``results.pt`` holds: the module's result, and gradients by parameter or input name."""
        found = torch.load(folder / "results.pt", weights_only=True)
        spec = self.capture.out_spec
        paths = {slot.name: slot.path for slot in self.capture.slots}
        gradients = {paths.get(name, name): gradient for name, gradient in found["gradients"].items()}
        return unflatten_result(found["outputs"][: spec.num_leaves], spec), gradients


def checked(passes: Sequence[Pass | str] | None, options: Mapping[str, Any]) -> tuple[list[str], dict[str, Any]]:
    """Names of passes and the options for them.

    Raises:
        InvalidArgumentError: a pass has no name by which another process finds it, or an option cannot be used.
    """
    unknown = options.keys() - set(_OPTIONS)
    if unknown:
        raise InvalidArgumentError(f"unknown option {sorted(unknown)[0]!r}; choose from {sorted(_OPTIONS)}")
    names = [step if isinstance(step, str) else step.name for step in (DEFAULT_PASSES if passes is None else passes)]
    for name, step in zip(names, passes or (), strict=False):
        if not isinstance(step, str) and by_name(name) is not step:
            raise InvalidArgumentError(f"passes: {name!r} is made in this process; give it as module:NAME")
    settings = CompileOptions(passes=[by_name(name) for name in names], backend="eager", **options)
    return names, {name: getattr(settings, name) for name in _OPTIONS}
