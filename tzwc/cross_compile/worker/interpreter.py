"""Run generated code on the CPU: its kernels in Triton's interpreter, everything else by PyTorch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch._inductor.runtime import triton_helpers

from tzwc.cross_compile.worker.device_functions import DeviceFunctions

__all__ = ["kernel_sources", "runnable"]

_KERNEL = re.compile(r"^(\w+) = async_compile\.triton\('\w+', '''\n(.*?)''', device_str='\w+'\)", re.S | re.M)

# The interpreter runs one program after the other, and each costs the same whatever the size of its block.
_LARGE_BLOCK = 1 << 15


def kernel_sources(code: str) -> dict[str, str]:
    """The Python source of every Triton kernel in a generated module, by the variable it is bound to."""
    return {found[1]: found[2] for found in _KERNEL.finditer(code)}


def runnable(name: str, code: str) -> Any:
    """The ``call`` of a generated module, for tensors on the CPU; the interpreter has to be on (TRITON_INTERPRET)."""
    helpers: Any = triton_helpers
    helpers.libdevice = DeviceFunctions()  # generated kernels import it from here
    namespace: dict[str, Any] = {"__name__": f"tzwc_generated_{name}", "__file__": str(Path(f"{name}.py"))}
    exec(compile(code, f"<generated {name}>", "exec"), namespace)
    # Generated code makes tensors on the GPU by these names.
    namespace["device"] = lambda type, index=None: torch.device("cpu")  # noqa: ARG005
    for kernel in kernel_sources(code):
        _enlarge(namespace[kernel])
    return namespace["call"]


def _enlarge(kernel: Any) -> None:
    """Let an elementwise kernel work in large blocks; its numbers do not depend on them."""
    sizes: Mapping[str, int] = kernel.size_hints or {}
    if set(sizes) == {"x"} and "XBLOCK" in kernel.configs[0].kwargs:
        kernel.configs[0].kwargs["XBLOCK"] = min(_LARGE_BLOCK, sizes["x"])
