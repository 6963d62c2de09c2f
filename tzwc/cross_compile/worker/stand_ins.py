"""Stand-ins for what PyTorch and Triton ask a GPU: its properties, its streams, its driver.

With them, fake tensors on ``cuda`` trace, Inductor writes Triton kernels and Triton compiles these, all without CUDA.
Nothing here can be taken back: only for a process that does this and nothing else.
"""

from __future__ import annotations

import functools
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import torch
from torch._dynamo import device_interface as interfaces

from tzwc._torch.fake_tensors import FakeTensor
from tzwc.lowering.gpu.target import Target

__all__ = ["install"]


def install(target: Target) -> None:
    """Let this process see ``target`` as its one GPU; calling it again changes the GPU."""
    properties = _properties(target)
    torch.version.hip = "6.3" if target.backend == "hip" else None
    replacements: dict[str, Any] = {
        "current_device": lambda: 0,
        "device": _NoGuard,
        "_DeviceGuard": _NoGuard,
        "device_count": lambda: 1,
        "get_device_capability": lambda _=None: target.capability,
        "get_device_properties": lambda _=None: properties,
        "is_bf16_supported": lambda **_: True,
        "set_device": lambda _: None,
        "synchronize": lambda *_: None,
    }
    for name, replacement in replacements.items():
        setattr(torch.cuda, name, replacement)
    guards = torch._C._dynamo.guards
    guards._empty_strided_cuda = guards._empty_strided_cpu  # type: ignore[attr-defined]
    torch._C._cuda_getCurrentRawStream = lambda device: 0  # noqa: ARG005
    interfaces.get_interface_for_device("cpu")  # registers the real ones, which would replace ours later
    interface = _interface(target, properties)
    for device in ("cuda", "cuda:0"):
        interfaces.register_interface_for_device(device, interface)
    _install_driver(target, interface)
    _trace_patterns_on_cpu()
    fake: Any = FakeTensor
    fake.contiguous = _contiguous
    fake.copy_ = _copy
    _forget_the_last_target()


class _NoGuard(nullcontext[None]):
    """In place of a context manager that selects a device."""

    def __init__(self, *_: object) -> None:
        super().__init__()


def _properties(target: Target) -> SimpleNamespace:
    major, minor = target.capability
    return SimpleNamespace(
        name=target.device,
        major=major,
        minor=minor,
        multi_processor_count=target.processors,
        regs_per_multiprocessor=target.registers,
        max_threads_per_multi_processor=target.threads,
        max_threads_per_block=1024,
        warp_size=target.warp,
        shared_memory_per_block=48 * 1024,
        shared_memory_per_block_optin=target.shared,
        shared_memory_per_multiprocessor=target.shared,
        total_memory=target.memory,
        L2_cache_size=40 << 20,
        gcnArchName=str(target.architecture),
    )


def _interface(target: Target, properties: SimpleNamespace) -> type[interfaces.DeviceInterface]:
    common: dict[str, Any] = {
        "current_device": lambda: 0,
        "get_device_properties": lambda _=None: properties,
        "set_device": lambda _: None,
    }
    own: dict[str, Any] = {
        "device": _NoGuard,
        "device_count": lambda: 1,
        "get_compute_capability": lambda _=None: target.architecture,
        "get_raw_stream": lambda _: 0,
        "is_available": lambda: True,
        "is_bf16_supported": lambda **_: True,
        "is_triton_capable": lambda _=None: True,
        "synchronize": lambda _=None: None,
    }
    worker = type("StandInWorker", (interfaces.DeviceInterface.Worker,), _static(common))
    return type("StandIn", (interfaces.CudaInterface,), {**_static({**common, **own}), "Worker": worker})


def _static(members: dict[str, Any]) -> dict[str, Any]:
    return {name: m if isinstance(m, type) else staticmethod(m) for name, m in members.items()}


def _install_driver(target: Target, interface: type[interfaces.DeviceInterface]) -> None:
    from torch._inductor.runtime import triton_helpers
    from triton.backends.compiler import GPUTarget
    from triton.runtime.driver import driver

    triton_helpers.set_driver_to_gpu = lambda: None  # it would look for a real one
    described = GPUTarget(target.backend, target.architecture, target.warp)
    driver.set_active(
        SimpleNamespace(
            binary_ext="cubin" if target.backend == "cuda" else "hsaco",
            get_current_target=lambda: described,
            get_active_torch_device=lambda: torch.device("cuda", 0),
            get_current_device=lambda: 0,
            get_current_stream=lambda _=None: 0,
            get_device_interface=lambda: interface,
        )
    )


def _trace_patterns_on_cpu() -> None:
    """Inductor traces its own patterns with real tensors on the device of the graph, and there is no such device."""
    from torch._inductor.fx_passes import joint_graph, post_grad

    module: Any
    for module in (joint_graph, post_grad):
        if not hasattr(module.lazy_init, "on_cpu"):
            prepare = functools.partial(_ignoring_device, module.lazy_init)
            prepare.on_cpu = True  # type: ignore[attr-defined]
            module.lazy_init = prepare


def _contiguous(self: FakeTensor, memory_format: torch.memory_format = torch.contiguous_format) -> torch.Tensor:
    """``Tensor.contiguous``, which switches to the device of its argument before anything can intercept it."""
    return self if self.is_contiguous(memory_format=memory_format) else self.clone(memory_format=memory_format)


def _copy(self: FakeTensor, source: torch.Tensor, non_blocking: bool = False) -> FakeTensor:
    """``Tensor.copy_``, which does that too; a fake tensor has nothing to copy but checks the shape."""
    del non_blocking
    source.expand(self.shape)
    return self


def _ignoring_device(prepare: Any, _device: object = None) -> Any:
    return prepare(torch.device("cpu"))


def _forget_the_last_target() -> None:
    from torch._inductor.runtime.hints import DeviceProperties
    from torch.utils import _triton

    DeviceProperties.create.__func__.cache_clear()  # type: ignore[attr-defined]
    for question in vars(_triton).values():
        if hasattr(question, "cache_clear"):
            question.cache_clear()
