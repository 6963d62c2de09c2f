"""GPUs that a graph can be lowered for, by the name of their architecture."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tzwc.errors import InvalidArgumentError
from tzwc.util.argument_checks import exact, examined, shown

__all__ = ["LAUNCH_SECONDS", "TARGETS", "Target"]

LAUNCH_SECONDS = 3e-6
"""Seconds from one kernel to the next, an assumption: what a queue of small kernels costs without CUDA graphs."""


@dataclass(frozen=True)
class Target:
    """One GPU architecture, with the figures that code generation and the cost model ask for.

    Peak rates are those of the vendor's data sheet for the named device, without sparsity; no program reaches them.

    Attributes:
        name: how it is chosen, such as ``cuda:90``.
        device: the device that the figures describe.
        backend: ``cuda`` or ``hip``.
        architecture: compute capability times ten, or AMD's ``gfx…``.
        warp: threads that run in step.
        processors: streaming multiprocessors or compute units.
        registers: 32-bit registers of one of these.
        threads: resident threads of one of these.
        shared: bytes of shared memory that one block may use.
        memory: bytes of device memory.
        bandwidth: bytes/s of device memory.
        pointwise: float32 FLOP/s outside of matrix units.
        products: FLOP/s of matrix products by element type; ``tf32`` applies to float32 where a program allows it.
    """

    name: str
    device: str
    backend: str
    architecture: int | str
    warp: int
    processors: int
    registers: int
    threads: int
    shared: int
    memory: int
    bandwidth: float
    pointwise: float
    products: tuple[tuple[str, float], ...]

    @classmethod
    @examined("target")
    def parse(cls, name: str) -> Target:
        """The target called ``name``, in any case of its letters.

        Raises:
            InvalidArgumentError: there is none; the message lists them.
        """
        name = exact(name)
        found = TARGETS.get(name.strip().lower()) if isinstance(name, str) else None
        if found is None:
            raise InvalidArgumentError(f"target={shown(name)} is unknown: choose one of {', '.join(TARGETS)}")
        return found

    @property
    def capability(self) -> tuple[int, int]:
        """Major and minor compute capability; of AMD's architectures, the leading digits."""
        if isinstance(self.architecture, int):
            return divmod(self.architecture, 10)
        digits = re.sub(r"\D", "", self.architecture)
        return int(digits[0]), int(digits[1])

    def product_rate(self, dtype: str, *, tf32: bool = False) -> float:
        """FLOP/s of matrix products in ``dtype`` (``"float32"``, …); element types without a unit run pointwise."""
        return dict(self.products).get("tf32" if tf32 and dtype == "float32" else dtype, self.pointwise)


_A100 = Target(
    name="cuda:80",
    device="NVIDIA A100 SXM 80 GB",
    backend="cuda",
    architecture=80,
    warp=32,
    processors=108,
    registers=65536,
    threads=2048,
    shared=163 * 1024,
    memory=80 << 30,
    bandwidth=2.04e12,
    pointwise=19.5e12,
    products=(
        ("float64", 19.5e12),
        ("float32", 19.5e12),
        ("tf32", 156e12),
        ("bfloat16", 312e12),
        ("float16", 312e12),
    ),
)
_H100 = Target(
    name="cuda:90",
    device="NVIDIA H100 SXM",
    backend="cuda",
    architecture=90,
    warp=32,
    processors=132,
    registers=65536,
    threads=2048,
    shared=227 * 1024,
    memory=80 << 30,
    bandwidth=3.35e12,
    pointwise=67e12,
    products=(("float64", 67e12), ("float32", 67e12), ("tf32", 494e12), ("bfloat16", 989e12), ("float16", 989e12)),
)
_MI300X = Target(
    name="hip:gfx942",
    device="AMD Instinct MI300X",
    backend="hip",
    architecture="gfx942",
    warp=64,
    processors=304,
    registers=131072,
    threads=2048,
    shared=64 * 1024,
    memory=192 << 30,
    bandwidth=5.3e12,
    pointwise=81.7e12,
    products=(("float64", 163.4e12), ("float32", 163.4e12), ("bfloat16", 1307e12), ("float16", 1307e12)),
)

TARGETS = {target.name: target for target in (_A100, _H100, _MI300X)}
"""Every target by its name."""
