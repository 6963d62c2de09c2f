"""What lowering for a GPU gives: generated code, kernels, launches and what they cost, as plain data."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from tzwc.ir.remarks import Location, Remark
from tzwc.lowering.gpu.target import Target

__all__ = ["Kernel", "Launch", "Module", "Origin", "Program"]


@dataclass(frozen=True)
class Origin:
    """A node of the residual graph that a launch computes.

    Attributes:
        node: its name; operator: its target; module_path, file, line: where the user's program called it.
    """

    node: str
    operator: str
    module_path: str
    file: str | None
    line: int | None


@dataclass(frozen=True)
class Launch:
    """One step of a generated module.

    Attributes:
        kernel: name of a generated kernel, or the library function that is called.
        kind: ``triton`` for generated kernels, ``extern`` for library calls (products, FFT, convolution).
        bytes: read from and written to device memory when every operand is touched once, as counted by Inductor.
        flops: floating-point operations; of a generated kernel, those in its source times its iterations.
        launches: kernels that start: 1, but one for each axis of a Fourier transform.
        dtype: of an extern call's operands; empty for generated kernels.
        origins: what it computes.
    """

    kernel: str
    kind: Literal["triton", "extern"]
    bytes: int
    flops: int
    launches: int
    dtype: str
    origins: tuple[Origin, ...]


@dataclass(frozen=True)
class Module:
    """One generated Python module: ``inference``, ``forward`` or ``backward``; its ``code`` and its ``launches``."""

    name: str
    code: str = field(repr=False)
    launches: tuple[Launch, ...] = field(repr=False)


@dataclass(frozen=True)
class Kernel:
    """One generated Triton kernel.

    Attributes:
        name, source: of the kernel; the source is a Python module.
        configuration: block sizes and warps it was compiled with; ``None`` when it was not compiled.
        registers: 32-bit registers a thread. spilled: bytes a thread keeps in memory for want of registers.
        shared: bytes of shared memory a block.
        assembly, binary: PTX and cubin, or AMD's assembly and code object; ``None`` when it was not compiled.
    """

    name: str
    source: str = field(repr=False)
    configuration: Mapping[str, int] | None = None
    registers: int | None = None
    spilled: int | None = None
    shared: int | None = None
    assembly: str | None = field(default=None, repr=False)
    binary: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Program:
    """Code that was generated for a GPU.

    Attributes:
        model: class of the module.
        target: the GPU.
        modules: the generated modules in the order in which they run.
        kernels: their Triton kernels.
        kept: names of the nodes whose values are kept between calls and come in as arguments.
        remarks: what the passes said.
    """

    model: str
    target: Target
    modules: tuple[Module, ...]
    kernels: tuple[Kernel, ...]
    kept: tuple[str, ...]
    remarks: tuple[Remark, ...] = field(repr=False)

    @classmethod
    def from_answer(cls, model: str, target: Target, answer: Mapping[str, Any], folder: Path) -> Program:
        """What the process answered that did the job in ``folder``."""
        kernels = []
        for entry in answer["kernels"]:
            files = {}
            if "assembly" in entry:
                files["assembly"] = (folder / entry["assembly"]).read_text(encoding="utf-8")
                files["binary"] = (folder / entry["binary"]).read_bytes()
            kernels.append(Kernel(**{**entry, **files}))
        # The backward pass is generated first.
        modules = sorted((_module(entry) for entry in answer["modules"]), key=lambda m: m.name == "backward")
        return cls(model, target, tuple(modules), tuple(kernels), tuple(answer["kept"]), _remarks(answer["remarks"]))

    @property
    def launches(self) -> tuple[Launch, ...]:
        """Every launch of every module, in order."""
        return tuple(launch for module in self.modules for launch in module.launches)

    @property
    def extern_calls(self) -> tuple[Launch, ...]:
        """The launches that call a library."""
        return tuple(launch for launch in self.launches if launch.kind == "extern")

    def to_dict(self) -> dict[str, Any]:
        """The program as JSON-safe data, without code and binaries."""
        kernels = []
        for kernel in self.kernels:
            entry = {key: value for key, value in vars(kernel).items() if key not in ("source", "assembly", "binary")}
            kernels.append(entry)
        return {
            "model": self.model,
            "target": self.target.name,
            "device": self.target.device,
            "modules": [{"name": m.name, "launches": [asdict(launch) for launch in m.launches]} for m in self.modules],
            "kernels": kernels,
            "kept": list(self.kept),
            "remarks": [remark.to_dict() for remark in self.remarks],
        }

    def write(self, folder: Path) -> list[Path]:
        """Write code, kernels, assembly, binaries and ``report.json`` to ``folder``; returns the paths.

        The modules ``inference.py``, ``forward.py`` and ``backward.py`` run where there is such a GPU.
        """
        folder.mkdir(parents=True, exist_ok=True)
        files: dict[str, str | bytes] = {f"{module.name}.py": module.code for module in self.modules}
        text, binary = ("ptx", "cubin") if self.target.backend == "cuda" else ("amdgcn", "hsaco")
        for kernel in self.kernels:
            files[f"{kernel.name}.py"] = kernel.source
            if kernel.assembly is not None and kernel.binary is not None:
                files[f"{kernel.name}.{text}"] = kernel.assembly
                files[f"{kernel.name}.{binary}"] = kernel.binary
        files["report.json"] = json.dumps(self.to_dict(), indent=2)
        for name, content in files.items():
            data = content if isinstance(content, bytes) else content.encode()
            (folder / name).write_bytes(data)
        return [folder / name for name in files]


def _module(entry: Mapping[str, Any]) -> Module:
    launches = []
    for launch in entry["launches"]:
        fields = {key: value for key, value in launch.items() if key != "elements"}
        launches.append(Launch(**{**fields, "origins": tuple(Origin(**origin) for origin in launch["origins"])}))
    return Module(entry["name"], entry["code"], tuple(launches))


def _remarks(entries: Sequence[Mapping[str, Any]]) -> tuple[Remark, ...]:
    return tuple(
        Remark(**{**entry, "nodes": tuple(entry["nodes"]), "location": Location(**entry["location"])})
        for entry in entries
    )
