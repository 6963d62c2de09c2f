"""Symbolic numbers as nodes: what a program computes from the sizes of its inputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sympy
import torch
from torch import fx

from tzwc._torch.symbolic_shapes import PythonReferenceAnalysis, sympy_interp
from tzwc.errors import CaptureError

__all__ = ["SymbolNodes"]

_Number = torch.SymInt | torch.SymFloat | torch.SymBool


class SymbolNodes:
    """Nodes of ``graph`` for expressions in the symbolic sizes of its inputs."""

    def __init__(self, graph: fx.Graph) -> None:
        self._graph = graph
        self._known: dict[sympy.Expr, fx.Node] = {}
        self._symbols: dict[sympy.Symbol, tuple[fx.Node, int, torch.SymInt | torch.SymFloat]] = {}

    def define(self, placeholder: fx.Node, tensor: torch.Tensor) -> None:
        """Let the symbolic sizes of an input stand for the sizes of its placeholder."""
        sizes: Sequence[int | torch.SymInt] = tensor.shape
        for dimension, size in enumerate(sizes):
            if isinstance(size, torch.SymInt) and isinstance(size.node.expr, sympy.Symbol):
                self._symbols.setdefault(size.node.expr, (placeholder, dimension, size))

    def define_number(self, name: str, number: torch.SymInt) -> fx.Node | None:
        """A placeholder for a symbolic number that is an input itself; none when it is the size of another input."""
        if number.node.expr in self._symbols:
            return None
        anchor = next(iter(n for n in self._graph.nodes if n.op != "placeholder" or n.name == "tzwc_anchor"))
        with self._graph.inserting_before(anchor):
            node = self._graph.placeholder(name)
        self.stand_for(number, node)
        return node

    def stand_for(self, number: torch.SymInt | torch.SymFloat, node: fx.Node) -> None:
        """Let ``node`` be the symbol ``number`` from now on."""
        node.meta["val"] = number
        self._symbols[number.node.expr] = node, 0, number
        self._known[number.node.expr] = node

    def node_for(self, number: _Number) -> Any:
        """The node that computes ``number``, or its value when it is fixed.

        Raises:
            CaptureError: it depends on the contents of a tensor.
        """
        expression = number.node.expr
        if expression.is_number or expression in (sympy.true, sympy.false):
            return number.node.pytype(expression)
        unknown = expression.free_symbols - self._symbols.keys()
        if unknown:
            raise CaptureError(f"a size depends on the values of a tensor ({sorted(map(str, unknown))})")
        return self._build(expression)

    def _build(self, expression: Any) -> Any:
        if expression in self._known:
            return self._known[expression]
        environment = {s: self._symbol(s) for s in expression.free_symbols}
        proxies = {s: fx.Proxy(node, fx.proxy.GraphAppendingTracer(self._graph)) for s, node in environment.items()}
        before = set(self._graph.nodes)
        result = sympy_interp(PythonReferenceAnalysis, proxies, expression)
        node = result.node if isinstance(result, fx.Proxy) else result
        for made in self._graph.nodes:
            if made not in before:
                args = fx.node.map_arg(made.args, lambda n: n.meta["val"])
                assert callable(made.target)
                made.meta["val"] = made.target(*args, **made.kwargs)
        if isinstance(node, fx.Node):
            self._known[expression] = node
        return node

    def _symbol(self, symbol: sympy.Symbol) -> fx.Node:
        if symbol not in self._known:
            placeholder, dimension, size = self._symbols[symbol]
            node = self._graph.call_function(torch.ops.aten.sym_size.int, (placeholder, dimension))
            node.meta["val"] = size
            self._known[symbol] = node
        return self._known[symbol]
