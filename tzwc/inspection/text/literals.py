"""Python source text for the constants and nested arguments found in fx graphs."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import fx

__all__ = ["OPEN_END", "Reference", "literal"]

Reference = Callable[["fx.Node | torch.SymInt | torch.SymFloat | torch.SymBool"], str]
"""Gives the expression that stands for a node or for a symbolic number."""

OPEN_END = 2**63 - 1
"""What ATen writes for "to the end" in a slice; rendered by name, since nineteen digits say nothing to a reader."""


def literal(value: object, reference: Reference) -> str:
    """An expression that evaluates to ``value``, with ``torch`` and ``math`` imported and ``END`` defined.

    Raises:
        TypeError: ``value`` has no exact textual form (a tensor, a generator, an object of a user's class).
    """
    if isinstance(value, (fx.Node, torch.SymInt, torch.SymFloat, torch.SymBool)):
        return reference(value)
    if value is None or value is Ellipsis or isinstance(value, (bool, str, bytes)):
        return "..." if value is Ellipsis else repr(value)
    if isinstance(value, int):
        return "END" if value == OPEN_END else repr(int(value))
    if isinstance(value, float):
        return _float(value)
    if isinstance(value, complex):
        # Not repr: (-0+1j) evaluates to a real part of +0.
        return f"complex({_float(value.real)}, {_float(value.imag)})"
    if isinstance(value, slice):
        return f"slice({', '.join(literal(part, reference) for part in (value.start, value.stop, value.step))})"
    if isinstance(value, range):
        return repr(value)
    if isinstance(value, (torch.dtype, torch.layout, torch.memory_format)):
        return str(value)
    if isinstance(value, torch.device):
        return f"torch.device({str(value)!r})"
    return _container(value, reference)


def _float(value: float) -> str:
    if math.isnan(value):
        return "math.nan"
    if math.isinf(value):
        return "math.inf" if value > 0 else "-math.inf"
    return repr(float(value))


def _container(value: object, reference: Reference) -> str:
    if isinstance(value, tuple) and not hasattr(value, "_fields"):
        items = [literal(item, reference) for item in value]
        return f"({items[0]},)" if len(items) == 1 else f"({', '.join(items)})"
    if isinstance(value, list):
        return f"[{', '.join(literal(item, reference) for item in value)}]"
    if isinstance(value, dict):
        pairs = (f"{literal(key, reference)}: {literal(item, reference)}" for key, item in value.items())
        return f"{{{', '.join(pairs)}}}"
    raise TypeError(f"{type(value).__name__} has no textual form")
