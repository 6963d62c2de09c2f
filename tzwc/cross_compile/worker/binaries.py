"""Compile generated kernels for a GPU that is not there, with Triton's own compiler and assembler."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

from tzwc.lowering.gpu.target import Target

__all__ = ["compile_kernel"]

_FUNCTION = re.compile(r"^@triton\.jit\ndef (\w+)\(", re.M)
_USAGE = re.compile(r"REG:(\d+) STACK:(\d+) SHARED:(\d+) LOCAL:(\d+)")


def compile_kernel(name: str, source: str, target: Target, folder: Path) -> dict[str, Any]:
    """Compile ``source``, write what comes of it to ``folder`` and return registers, spills and shared memory.

    Where Inductor gives several configurations to choose among by measurement, this takes the first.

    Args:
        name: of the kernel; its function may have another one when one kernel of our own is used in several ways.
        source: a Python module that Inductor wrote.
        target: the GPU.
        folder: for ``NAME.ptx`` and ``NAME.cubin``, or ``NAME.amdgcn`` and ``NAME.hsaco``.
    """
    import triton
    from torch._inductor.codecache import PyCodeCache
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    kernel = getattr(PyCodeCache.load(source), _FUNCTION.findall(source)[-1])
    chosen = kernel.configs[0]
    meta = kernel._create_compile_meta(chosen)
    built = triton.compile(
        ASTSource(kernel.fn, meta["signature"], meta["constants"], meta["configs"][0]),
        target=GPUTarget(target.backend, target.architecture, target.warp),
        options=kernel._create_compile_options(chosen, meta),
    )
    written = write_binary(name, built, target, folder)
    return {"configuration": {**chosen.kwargs, "num_warps": chosen.num_warps}, **written}


def write_binary(name: str, built: Any, target: Target, folder: Path) -> dict[str, Any]:
    """Write the assembly and the binary of a kernel that Triton compiled; see :func:`compile_kernel`."""
    text, binary = ("ptx", "cubin") if target.backend == "cuda" else ("amdgcn", "hsaco")
    assembly = folder / f"{name}.{text}"
    assembly.write_text(built.asm[text], encoding="utf-8")
    machine_code = folder / f"{name}.{binary}"
    machine_code.write_bytes(built.asm[binary])
    usage = _cuda_usage(machine_code) if target.backend == "cuda" else _amd_usage(built.asm[text])
    return {"assembly": assembly.name, "binary": machine_code.name, "shared": int(built.metadata.shared), **usage}


def _cuda_usage(binary: Path) -> dict[str, int]:
    import triton.backends.nvidia

    tool = Path(triton.backends.nvidia.__file__).parent / "bin" / "cuobjdump"
    shown = subprocess.run([tool, "--dump-resource-usage", binary], capture_output=True, text=True, check=True)
    found = _USAGE.search(shown.stdout)
    return {} if found is None else {"registers": int(found[1]), "spilled": int(found[4])}


def _amd_usage(assembly: str) -> dict[str, int]:
    registers = re.search(r"\.vgpr_count:\s*(\d+)", assembly)
    spilled = re.search(r"\.vgpr_spill_count:\s*(\d+)", assembly)
    return {
        **({"registers": int(registers[1])} if registers else {}),
        **({"spilled": 4 * int(spilled[1])} if spilled else {}),
    }
