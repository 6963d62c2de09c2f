"""Lower a residual graph for a GPU with Inductor, as ``tzwc.compile`` or plain ``torch.compile`` would on one."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch._dynamo
from torch import Tensor, fx
from torch._functorch import config as functorch_config
from torch._inductor import config
from torch._inductor.compile_fx import compile_fx, compile_fx_inner

from tzwc._torch.fake_tensors import FakeTensorMode, TracingContext, tracing
from tzwc.cross_compile.worker.devices import CPU, GPU, like, move_arguments, move_values
from tzwc.cross_compile.worker.records import Call, Recorder, recording
from tzwc.lowering.backend import INDUCTOR

__all__ = ["compiled"]

_HERE = {
    # One process does one thing at a time here, and nothing may be answered from a cache: the code is what is wanted.
    "compile_threads": 1,
    "force_disable_caches": True,
    # Inductor pads the operands of products where a measurement on the GPU says so, and there is none to measure.
    "shape_padding": False,
}


def compiled(
    residual: fx.GraphModule,
    gradients: frozenset[str],
    plain: bool,
    mode: FakeTensorMode,
    run: Callable[[str, str], Call],
) -> tuple[Callable[..., Any], list[dict[str, Any]]]:
    """The lowered program, and a record of every module that was generated for it.

    Args:
        residual: takes and returns tensors, whose fake values are on the GPU.
        gradients: names of its inputs that need gradients; with any, a backward pass is generated too.
        plain: lower with Inductor's own settings for a GPU rather than with those of ``tzwc.compile``.
        mode: the fake-tensor mode of the graph's values.
        run: makes a callable of a generated module's name and code.
    """
    torch.compiler.reset()
    device = CPU if gradients else GPU
    if gradients:
        # Without CUDA, autograd cannot record what happens on a GPU; so it traces the graph on the CPU, and what it
        # gives, forward and backward, is moved to the GPU before any code is made.
        for node in residual.graph.nodes:
            move_arguments(node, CPU)
        residual.recompile()
    placeholders = [node for node in residual.graph.nodes if node.op == "placeholder"]
    recorder = Recorder({node.name: node for node in residual.graph.nodes}, run)
    settings: Mapping[str, Any] = _HERE if plain else {**INDUCTOR, **_HERE}
    examples = [like(n.meta["val"], device, mode).requires_grad_(n.name in gradients) for n in placeholders]

    def inner(module: fx.GraphModule, inputs: Sequence[Any], **options: Any) -> Any:
        move_values(module.graph, GPU, mode)
        moved = [like(x, GPU, mode) if isinstance(x, Tensor) else x for x in inputs]
        return compile_fx_inner(module, moved, **options)

    with (
        warnings.catch_warnings(),
        torch.set_grad_enabled(bool(gradients)),
        tracing(TracingContext(mode)),
        config.patch(dict(settings)),
        functorch_config.patch(force_non_lazy_backward_lowering=True),
        recording(recorder),
    ):
        # Complex numbers have no generated code; the record shows the calls that are made in its place.
        warnings.filterwarnings("ignore", message="Torchinductor does not support code generation for complex")
        program: Any = compile_fx(residual, examples, inner_compile=inner if gradients else compile_fx_inner)
    return program, recorder.modules
