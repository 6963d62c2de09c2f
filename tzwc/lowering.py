"""Lower a graph with one of ``torch.compile``'s backends.

The backends are called by the protocol that ``torch.compile`` itself uses (a graph module and example inputs give a
callable), without Dynamo in front: the graph is whole and its assumptions are already guarded by the caller, so a
second tracing and a second set of guards would only cost time (measured on 400 parameters: 47 s against 14 s for the
first call, and 0.5 ms a call).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch._dynamo
from torch import fx
from torch._guards import TracingContext, tracing
from torch._inductor import config as inductor_config
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import ShapeEnv

from tzwc.errors import InvalidArgumentError

__all__ = ["INDUCTOR", "Backend", "Lowered", "check_backend", "lower"]

INDUCTOR = {
    # Inductor's own random numbers differ from eager's; with the same seed, dropout must drop the same elements.
    "fallback_random": True,
    # Channels-last activations leave the operands of per-sample products strided, and each batched product then
    # copies them matrix by matrix (measured on the digits model at batch 64, one thread: 101 ms against 48).
    "layout_optimization": False,
}

Backend = str | Callable[[fx.GraphModule, Sequence[Any]], Callable[..., Any]]
Lowered = Callable[..., Sequence[Any]]


def check_backend(backend: Backend) -> Backend:
    """Return ``backend`` when it can be used.

    Raises:
        InvalidArgumentError: a name that ``torch.compile`` does not know, or something that is not callable.
    """
    if callable(backend):
        return backend
    # What ``torch.compile`` knows as "tzwc" makes graphs and leaves lowering to another backend.
    if backend == "tzwc" or backend not in torch._dynamo.list_backends(exclude_tags=()):
        usual = sorted([*(b for b in torch._dynamo.list_backends() if b != "tzwc"), "eager", "aot_eager"])
        raise InvalidArgumentError(f"backend={backend!r} is not known to torch.compile; choose one of {usual}")
    return backend


def lower(
    module: fx.GraphModule, examples: Sequence[torch.Tensor], backend: Backend, mode: FakeTensorMode | None = None
) -> Lowered:
    """Compile ``module`` for arguments like ``examples``.

    Args:
        module: takes and returns a flat sequence of tensors.
        examples: tensors with the sizes to compile for; fake ones with symbolic sizes make one code for all sizes.
        backend: a name known to ``torch.compile``, or a callable by its protocol.
        mode: the fake-tensor mode of ``examples`` when they are fake.
    """
    if backend == "eager":
        return module
    if any(example.device.type == "cuda" for example in examples):
        from tzwc.gpu.kernels import for_devices  # which only GPUs need

        module = for_devices(module, examples)
    compiler = torch._dynamo.lookup_backend(backend) if isinstance(backend, str) else backend
    if mode is None:
        # Inductor caches compiled graphs on disk only where there is a shape environment.
        mode = FakeTensorMode(shape_env=ShapeEnv())
        examples = [mode.from_tensor(example, static_shapes=True) for example in examples]
    with tracing(TracingContext(mode)), inductor_config.patch(INDUCTOR):
        return compiler(module, list(examples))
