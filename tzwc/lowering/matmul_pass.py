"""Gives matrix products in graphs that Inductor is about to lower to the faster library.

It comes after derivatives have been taken and operators decomposed, so that one place serves forward and backward, and
all that ends as a product: 1×1 convolutions that a pass made one, linear layers, HyperZ·Z·W. Products with open sizes
stay with ATen: times depend on sizes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx

from tzwc._torch.inductor_passes import CustomGraphPass, get_hash_for_files
from tzwc.autotune import Tune, matmul_choice
from tzwc.autotune.fingerprint import fingerprint
from tzwc.autotune.matmul_choice import ATEN, ONEDNN, Operand, choose
from tzwc.ir.remarks import RemarkKind
from tzwc.ops import matmul
from tzwc.util.matmul_precision import matmul_precision

__all__ = ["ProductPass"]


_PRODUCTS = (torch.ops.aten.mm.default, torch.ops.aten.bmm.default, torch.ops.aten.addmm.default)
"""The sides of the product are the last two arguments of each."""

_FEWEST = 8
"""Below this many rows, columns or terms, a product is no work for a library."""

_FEWEST_OPERATIONS = 1 << 20
"""A product of fewer takes microseconds either way."""

_SECONDS = 60.0
"""How long to wait for the extension, which has been building since the capture began."""

Say = Callable[[RemarkKind, str, dict[str, float]], None]


class ProductPass(CustomGraphPass):
    """Replaces ``aten.mm``, ``aten.bmm`` and ``aten.addmm`` where oneDNN was measured to be faster.

    What ``aten.addmm`` adds becomes an operator of its own: Inductor merges it with what follows, and alone it takes
    about as long as ATen needs to write it into the result before it multiplies.

    Args:
        tune: products are measured with ``"measure"``, and left to ATen otherwise.
        say: told ``applied`` or ``declined``, a reason and numbers for every product that was considered.
    """

    def __init__(self, tune: Tune, say: Say) -> None:
        self.tune = tune
        self._say = say
        self._asked = False

    def __call__(self, graph: fx.Graph) -> None:
        """Rewrite ``graph`` in place."""
        self._asked = True
        if self.tune != "measure" or matmul_precision() != "highest":
            return
        products = [node for node in graph.nodes if node.target in _PRODUCTS]
        worth = [(node, pair) for node in products if (pair := _operands(node)) is not None]
        if not worth:
            return
        if not matmul.available(_SECONDS):
            self._say("declined", f"oneDNN cannot be called: {matmul.obstacle()}", {"products": len(worth)})
            return
        for node, (a, b) in worth:
            self._decide(node, a, b)

    def _decide(self, node: fx.Node, a: Operand, b: Operand) -> None:
        seconds = choose(a, b)
        best = next(iter(seconds), ATEN)
        numbers = {f"{name}_us": round(value * 1e6, 1) for name, value in seconds.items()}
        what = f"({'×'.join(map(str, a.shape))}) · ({'×'.join(map(str, b.shape))})"
        if best == ATEN:
            self._say("declined", f"{what}: oneDNN is not measured to be faster", numbers)
            return
        self._say("applied", f"{what} by oneDNN, measured {seconds[ATEN] / seconds[ONEDNN]:.3g}× faster", numbers)
        _replace(node, a, b)

    def say_if_not_asked(self) -> None:
        """Say, after a compilation, where its choices come from when they were not made by this pass."""
        if self.tune == "measure" and not self._asked:
            self._say("note", "the code is from Inductor's cache, with libraries as chosen when it was made", {})

    def uuid(self) -> Any:
        """What decides about the result of the pass, for Inductor's cache of lowered graphs."""
        if self.tune != "measure":
            return self.tune
        sources = get_hash_for_files((__file__, matmul_choice.__file__, matmul.__file__))
        return self.tune, matmul.available(_SECONDS), sorted(fingerprint("cpu").items()), sources


def _operands(node: fx.Node) -> tuple[Operand, Operand] | None:
    """The sides of a product that is worth a choice."""
    if node.kwargs:  # factors for the product, or for what is added to it
        return None
    found = []
    for argument in node.args[-2:]:
        value = argument.meta.get("val") if isinstance(argument, fx.Node) else None
        if not isinstance(value, Tensor) or value.dtype != torch.float32 or value.device.type != "cpu":
            return None
        if not all(isinstance(n, int) for n in (*value.shape, *value.stride())):
            return None
        found.append(Operand(tuple(value.shape), tuple(value.stride())))
    a, b = found
    rows, terms, columns = a.shape[-2], a.shape[-1], b.shape[-1]
    operations = 2 * math.prod(a.shape) * columns
    return (a, b) if min(rows, terms, columns) >= _FEWEST and operations >= _FEWEST_OPERATIONS else None


def _replace(node: fx.Node, a: Operand, b: Operand) -> None:
    graph = node.graph
    *added, first, second = node.args
    assert isinstance(first, fx.Node)
    assert isinstance(second, fx.Node)
    with graph.inserting_before(node):
        if a.shared:  # one shared operand is enough
            first = _single(first)
        elif b.shared:
            second = _single(second)
        new = graph.call_function(torch.ops.tzwc.product.default, (first, second))
        new.meta = dict(node.meta)
        if added:
            new = graph.call_function(torch.ops.aten.add.Tensor, (new, *added))
            new.meta = dict(node.meta)
    node.replace_all_uses_with(new)
    graph.erase_node(node)


def _single(operand: fx.Node) -> fx.Node:
    """The one matrix of a shared operand."""
    single = operand.graph.call_function(torch.ops.aten.select.int, (operand, 0, 0))
    single.meta["val"] = operand.meta["val"].select(0, 0)
    return single
