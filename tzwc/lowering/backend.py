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
from torch import fx
from torch.compiler import list_backends
from torch.fx.experimental.symbolic_shapes import ShapeEnv

from tzwc._torch.dynamo import lookup_backend
from tzwc._torch.fake_tensors import FakeTensorMode, TracingContext, tracing
from tzwc._torch.inductor import config as inductor_config
from tzwc.autotune import Tune
from tzwc.autotune.disturbance import working
from tzwc.errors import InvalidArgumentError
from tzwc.ir.logs import passes_log
from tzwc.ir.remarks import Remark, RemarkKind
from tzwc.lowering.gpu import for_devices
from tzwc.lowering.matmul_pass import ProductPass
from tzwc.util.argument_checks import shown

__all__ = ["INDUCTOR", "Backend", "Lowered", "check_backend", "compiled", "inductor_settings", "lower", "not_lowered"]

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
    if not isinstance(backend, str) or backend == "tzwc" or backend not in list_backends(exclude_tags=()):
        usual = sorted([*(b for b in list_backends() if b != "tzwc"), "eager", "aot_eager"])
        raise InvalidArgumentError(f"backend={shown(backend)} is not known to torch.compile; choose one of {usual}")
    return backend


_said: set[str] = set()


def not_lowered(backend: Backend, error: Exception) -> str:
    """In a few words, why ``backend`` gave no code; logged as a warning, once in a process."""
    inner = getattr(error, "inner_exception", error)  # of Inductor's own exceptions
    missing = type(inner).__name__ == "InvalidCxxCompiler"
    why = "no C++ compiler" if missing else f"{shown(backend)} failed ({type(inner).__name__})"
    if why not in _said:
        _said.add(why)
        remedy = "install g++, or name a compiler in CXX" if missing else "the remarks have the error"
        passes_log.warning("%s: rewritten graphs run operator by operator, not as compiled code; %s", why, remedy)
    return why


def inductor_settings(tune: Tune, remarks: list[Remark]) -> dict[str, Any]:
    """Inductor's settings for graphs of ours: :data:`INDUCTOR`, and matrix products by the faster library.

    Args:
        tune: see :class:`tzwc.options.CompileOptions`.
        remarks: what is decided about products is added here.
    """

    def say(kind: RemarkKind, reason: str, numbers: dict[str, float]) -> None:
        remarks.append(Remark("lowering", kind, "product", reason, numbers=numbers))

    theirs = inductor_config.post_grad_custom_pre_pass
    others = theirs if isinstance(theirs, (list, tuple)) else [theirs] if theirs is not None else []
    return {**INDUCTOR, "post_grad_custom_pre_pass": [*others, ProductPass(tune, say)]}


def lower(
    module: fx.GraphModule,
    examples: Sequence[torch.Tensor],
    backend: Backend,
    mode: FakeTensorMode | None = None,
    *,
    tune: Tune = "off",
    remarks: list[Remark] | None = None,
) -> Lowered:
    """Compile ``module`` for arguments like ``examples``.

    Args:
        module: takes and returns a flat sequence of tensors.
        examples: tensors with the sizes to compile for; fake ones with symbolic sizes make one code for all sizes.
        backend: a name known to ``torch.compile``, or a callable by its protocol.
        mode: the fake-tensor mode of ``examples`` when they are fake.
        tune: how libraries for matrix products are chosen, see :class:`tzwc.options.CompileOptions`.
        remarks: what is decided on the way is added here.
    """
    if backend == "eager":
        return module
    if any(example.device.type == "cuda" for example in examples):
        module = for_devices(module, examples)
    if mode is None:
        # Inductor caches compiled graphs on disk only where there is a shape environment.
        mode = FakeTensorMode(shape_env=ShapeEnv())
        examples = [mode.from_tensor(example, static_shapes=True) for example in examples]
    settings = inductor_settings(tune, [] if remarks is None else remarks)
    with tracing(TracingContext(mode)):
        return compiled(module, examples, backend, settings)


def compiled(module: fx.GraphModule, examples: Sequence[Any], backend: Backend, settings: dict[str, Any]) -> Lowered:
    """What ``backend`` makes of ``module``, with Inductor's ``settings`` in force, for its backward pass as well."""
    compiler: Callable[..., Lowered] = lookup_backend(backend) if isinstance(backend, str) else backend
    with working("lowering"):
        if backend == "inductor":  # which compiles the backward pass when it is first needed
            code = compiler(module, list(examples), config_patches=settings)
            settings["post_grad_custom_pre_pass"][-1].say_if_not_asked()
            return code
        with inductor_config.patch(settings):
            return compiler(module, list(examples))
