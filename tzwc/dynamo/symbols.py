"""Symbolic sizes of Dynamo's graph, in a shape environment of our own.

What tracing and passes find out about sizes must become guards of Dynamo, or the graph would be used where it is
wrong; but a graph that is given up half-way must leave none behind. So both work on symbols of their own, which stand
for Dynamo's one by one, and the guards are handed over when the graph is finished.
"""

from __future__ import annotations

from typing import Any

import sympy
import torch
from torch import Tensor
from torch.fx.experimental.symbolic_shapes import DimDynamic, ShapeEnv

from tzwc._torch.dynamo import ConstantSource
from tzwc._torch.fake_tensors import FakeTensorMode
from tzwc.errors import CaptureError

__all__ = ["Sizes"]


class Sizes:
    """Our symbols for Dynamo's.

    Attributes:
        mode: the fake-tensor mode of everything that is traced.
    """

    def __init__(self) -> None:
        self._environment = ShapeEnv()
        self.mode = FakeTensorMode(shape_env=self._environment, allow_non_fake_inputs=True)
        self._theirs: ShapeEnv | None = None
        self._ours: dict[sympy.Symbol, sympy.Symbol] = {}

    def number(self, given: Any) -> Any:
        """What stands for one of Dynamo's numbers.

        Raises:
            CaptureError: it depends on the values of a tensor.
        """
        if not isinstance(given, (torch.SymInt, torch.SymFloat)):
            return given
        expression = given.node.expr
        if expression.is_number:
            return given.node.pytype(expression)
        self._theirs = given.node.shape_env
        for symbol in sorted(expression.free_symbols, key=str):
            if symbol not in self._ours:
                self._ours[symbol] = self._symbol(symbol, isinstance(given, torch.SymFloat))
        translated, source = expression.xreplace(self._ours), ConstantSource(f"tzwc_{expression}")
        if isinstance(given, torch.SymFloat):
            return self._environment.create_symfloatnode(translated, hint=_hint(given), source=source)
        return self._environment.create_symintnode(translated, hint=int(_hint(given)), source=source)

    def like(self, given: Tensor) -> Tensor:
        """A fake tensor like Dynamo's ``given``, without values and history."""
        sizes, strides = list(map(self.number, given.shape)), list(map(self.number, given.stride()))
        with self.mode:
            return torch.empty_strided(sizes, strides, dtype=given.dtype, device=given.device)

    def hand_over(self) -> None:
        """Add what was found out about sizes to Dynamo's guards.

        Raises:
            CaptureError: a size that Dynamo left open was fixed, or something is about a size that is not Dynamo's.
        """
        for theirs, ours in self._ours.items():
            if self._environment.replace(ours).is_number:
                raise CaptureError(f"the size {theirs} would be fixed to {self._environment.replace(ours)}")
        if self._theirs is None:
            return
        back = {ours: theirs for theirs, ours in self._ours.items()}
        guards = [guard.expr.xreplace(back) for guard in self._environment.guards]
        for guard in guards:
            if not guard.free_symbols <= back.keys() | set(back.values()):
                raise CaptureError(f"a size depends on the values of a tensor ({guard})")
        for guard in guards:
            holds = self._theirs.evaluate_expr(guard)
            assert holds == sympy.true  # as for our symbols, which have the same values

    def _symbol(self, symbol: sympy.Symbol, is_float: bool) -> sympy.Symbol:
        assert self._theirs is not None
        create = self._theirs.create_symfloatnode if is_float else self._theirs.create_symintnode
        hint, source = _hint(create(symbol, hint=None)), ConstantSource(f"tzwc_{symbol}")
        if is_float:
            made = self._environment.create_unspecified_symbol(hint, source, dynamic_dim=DimDynamic.DYNAMIC)
        else:
            made = self._environment.create_symbol(int(hint), source, dynamic_dim=DimDynamic.DYNAMIC)
        if not isinstance(made, sympy.Symbol):
            raise CaptureError(f"the size {symbol} is 0 or 1, which PyTorch treats specially")
        # What Dynamo has guarded already need not be guarded again.
        self._environment.var_to_range[made] &= self._theirs.var_to_range[symbol]
        return made


def _hint(number: Any) -> int | float:
    if not number.node.has_hint():
        raise CaptureError(f"a size depends on the values of a tensor ({number.node.expr})")
    return number.node.hint  # type: ignore[no-any-return]
