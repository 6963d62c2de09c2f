"""What a node computes, as plain data that can be printed, stored and compared.

The compiler keeps fake tensors in ``node.meta["val"]``; they belong to a tracing session and cannot be stored. A graph
that was read back from a file keeps the plain form instead, under ``node.meta["tzwc_value"]``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import fx

__all__ = ["Dimension", "ScalarInfo", "TensorInfo", "ValueInfo", "describe", "value_of"]

Dimension: TypeAlias = int | str
"""A size: a number, or the text of a symbolic expression such as ``"s0"`` or ``"2*s0"``."""


@dataclass(frozen=True)
class TensorInfo:
    """A tensor: dtype as in ``"float32"``, sizes, strides in elements (``None`` unless strided), device."""

    dtype: str
    shape: tuple[Dimension, ...]
    stride: tuple[Dimension, ...] | None
    device: str

    def __str__(self) -> str:
        name = _SHORT.get(self.dtype, self.dtype)
        device = "" if self.device == "cpu" else f" {self.device}"
        return f"{name}[{', '.join(map(str, self.shape))}]{device}"


@dataclass(frozen=True)
class ScalarInfo:
    """A Python or symbolic number: its type (``"int"``, ``"float"``, ``"bool"``) and value or expression as text."""

    type: str
    value: str

    def __str__(self) -> str:
        return f"{self.type} {self.value}"


ValueInfo: TypeAlias = "TensorInfo | ScalarInfo | tuple[ValueInfo, ...] | None"
"""One value, several of them, or nothing known."""

_SHORT = {
    **{f"float{bits}": f"f{bits}" for bits in (16, 32, 64)},
    **{f"int{bits}": f"i{bits}" for bits in (8, 16, 32, 64)},
    **{f"uint{bits}": f"u{bits}" for bits in (8, 16, 32, 64)},
    **{f"complex{bits}": f"c{bits}" for bits in (32, 64, 128)},
    "bfloat16": "bf16",
}


def value_of(node: fx.Node) -> ValueInfo:
    """What ``node`` computes, from its metadata; ``None`` when nothing is known."""
    if "val" in node.meta:
        return _plain(node.meta["val"])
    value: ValueInfo = node.meta.get("tzwc_value")
    return value


def describe(value: ValueInfo) -> str:
    """Short text: ``f32[s0, 64]``, ``int 2*s0``, ``(f32[4], i64[4])``; empty when nothing is known."""
    if value is None:
        return ""
    if isinstance(value, tuple):
        return f"({', '.join(describe(item) or '?' for item in value)})"
    return str(value)


def _plain(value: object) -> ValueInfo:
    if isinstance(value, torch.Tensor):
        strided = value.layout == torch.strided
        return TensorInfo(
            dtype=str(value.dtype).removeprefix("torch."),
            shape=tuple(_dimension(size) for size in value.shape),
            stride=tuple(_dimension(step) for step in value.stride()) if strided else None,
            device=str(value.device),
        )
    if isinstance(value, (torch.SymInt, torch.SymFloat, torch.SymBool)):
        # Reading the expression as text adds no guard; converting to a number would.
        return ScalarInfo(type(value).__name__.removeprefix("Sym").lower(), str(value))
    if isinstance(value, (bool, int, float, complex)):
        return ScalarInfo(type(value).__name__, repr(value))
    if isinstance(value, (tuple, list)):
        return tuple(_plain(item) for item in value)
    return None


def _dimension(size: int | torch.SymInt) -> Dimension:
    return size if isinstance(size, int) else str(size)
