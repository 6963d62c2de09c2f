"""Symbolic sizes: does a graph that was captured at one size hold for another?"""

from __future__ import annotations

from collections.abc import Sequence

import sympy
import torch

from tzwc._torch.fake_tensors import FakeTensorMode

__all__ = ["fits", "is_symbolic"]


def is_symbolic(size: int | torch.SymInt) -> bool:
    """Whether ``size`` is not fixed by the capture."""
    return isinstance(size, torch.SymInt) and not size.node.expr.is_number


def fits(
    captured: Sequence[Sequence[int | torch.SymInt]],
    given: Sequence[Sequence[int]],
    mode: FakeTensorMode | None,
) -> bool:
    """Whether inputs of sizes ``given`` satisfy everything that the capture assumed of its sizes.

    Args:
        captured: sizes of the fake inputs, with symbols where a size was left open.
        given: concrete sizes, in the same order.
        mode: the fake-tensor mode of the capture; its shape environment holds ranges and guards.
    """
    symbols: dict[sympy.Symbol, int] = {}
    expressions: list[tuple[sympy.Expr, int]] = []
    for shape, sizes in zip(captured, given, strict=True):
        if len(shape) != len(sizes):
            return False
        for dimension, size in zip(shape, sizes, strict=True):
            if not is_symbolic(dimension):
                if int(dimension) != size:
                    return False
                continue
            assert isinstance(dimension, torch.SymInt)
            expression = dimension.node.expr
            if isinstance(expression, sympy.Symbol) and symbols.setdefault(expression, size) != size:
                return False
            expressions.append((expression, size))
    if any(expression.subs(symbols) != size for expression, size in expressions):
        return False
    return _guards_hold(symbols, mode)


def _guards_hold(symbols: dict[sympy.Symbol, int], mode: FakeTensorMode | None) -> bool:
    environment = mode.shape_env if mode is not None else None
    if environment is None:
        return True
    for symbol, size in symbols.items():
        allowed = environment.var_to_range.get(symbol)
        if allowed is not None and not (allowed.lower <= size <= allowed.upper):
            return False
    for guard in environment.guards:
        relevant = {s: symbols[s] for s in guard.expr.free_symbols if s in symbols}
        if relevant and guard.expr.subs(relevant) == sympy.false:
            return False
    return True
