"""A model of a program's time on a GPU: launches one after the other, each bound by memory or by arithmetic.

``t = Σ n · launch + max(bytes / bandwidth, flops / rate)``

``n`` kernels start for a launch, each after ``launch`` seconds, and none overlaps with another. Bytes are those of all
operands, each touched once, as if no cache held any; rates are peaks of the data sheet. So arithmetic and memory are
never slower than modelled here by this account, and a queue that is kept full hides launches. It ranks programs; it
predicts no wall time, and no number from it has been measured.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tzwc.cross_compile.program import Launch
from tzwc.lowering.gpu.target import LAUNCH_SECONDS, Target

__all__ = ["Cost", "modelled"]

_PRODUCTS = ("mm", "bmm", "addmm", "baddbmm", "convolution", "linear", "hyperzzw_dot")


@dataclass(frozen=True)
class Cost:
    """What a program costs by the model.

    Attributes:
        kernels: different kernels and library functions.
        launches: kernels that start.
        bytes: of all operands, each touched once.
        flops: floating-point operations.
        seconds: modelled.
        launch_seconds: the part of ``seconds`` that is launches.
    """

    kernels: int
    launches: int
    bytes: int
    flops: int
    seconds: float
    launch_seconds: float


def modelled(launches: Iterable[Launch], target: Target, *, tf32: bool = False) -> Cost:
    """The cost of these launches on ``target``.

    Args:
        tf32: products and convolutions of float32 use tensor cores, which PyTorch does not do unless asked.
    """
    steps = list(launches)
    started = sum(step.launches for step in steps)
    work = sum(max(step.bytes / target.bandwidth, step.flops / _rate(step, target, tf32)) for step in steps)
    return Cost(
        kernels=len({step.kernel for step in steps}),
        launches=started,
        bytes=sum(step.bytes for step in steps),
        flops=sum(step.flops for step in steps),
        seconds=started * LAUNCH_SECONDS + work,
        launch_seconds=started * LAUNCH_SECONDS,
    )


def _rate(step: Launch, target: Target, tf32: bool) -> float:
    name = step.kernel.removeprefix("torch.ops.").removeprefix("aten.").removesuffix(".default")
    if step.kind == "extern" and name.rpartition(".")[2] in _PRODUCTS:
        return target.product_rate(step.dtype, tf32=tf32)
    return target.pointwise
