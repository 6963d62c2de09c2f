"""What every node costs by the cost model, also for graphs that were read from files."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext

from torch import fx

from tzwc.errors import TzwcError
from tzwc.ir import roofline
from tzwc.ir.graph import fake_mode_of, nbytes

__all__ = ["ESTIMATES", "UNKNOWN_COST", "estimates"]

ESTIMATES = ("flops", "seconds", "bytes")
"""What is estimated: floating-point operations, seconds on the device, bytes of the result."""

UNKNOWN_COST = (TzwcError, RuntimeError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""What the cost model raises for operators that it cannot run on fake tensors, and for graphs from files, which have
none. A cost is only an extra."""


def estimates(graph: fx.Graph) -> Mapping[fx.Node, tuple[float, float, int]]:
    """:data:`ESTIMATES` of every call that the cost model knows, at the sizes seen at capture."""
    mode = fake_mode_of(graph)
    found: dict[fx.Node, tuple[float, float, int]] = {}
    # A cost asks symbolic sizes for numbers, which must not fix the sizes.
    with nullcontext() if mode is None or mode.shape_env is None else mode.shape_env.suppress_guards():
        for node in graph.nodes:
            if "tzwc_estimate" in node.meta:  # from a file
                found[node] = node.meta["tzwc_estimate"]
            elif node.op == "call_function" and "val" in node.meta:
                try:
                    found[node] = (roofline.flops(node), roofline.seconds(node), nbytes(node))
                except UNKNOWN_COST:
                    continue
    return found
