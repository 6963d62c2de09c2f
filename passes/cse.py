"""Common subexpressions: equal calls on equal arguments are computed once.

Two calls are one when their targets and all arguments agree exactly, they are pure, nothing writes to memory they may
share, and at most one of them is handed to the caller (who could otherwise write to one and change the other).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable

import torch
from torch import fx

from tzwc._torch.operators import OpOverload
from tzwc.ir.graph import is_pure
from tzwc.rewrite.pass_manager import Pass, PassContext
from tzwc.rewrite.rules import AliasFacts

__all__ = ["CSE", "merge_equal_calls"]

# Their values are whatever was in memory.
_UNDEFINED = {torch.ops.aten.empty, torch.ops.aten.empty_like, torch.ops.aten.new_empty, torch.ops.aten.empty_strided}


_COMMUTATIVE = {torch.ops.aten.mul.Tensor, torch.ops.aten.add.Tensor}


def _call_key(node: fx.Node) -> Hashable:
    arguments = [_key(a) for a in node.args]
    if node.target in _COMMUTATIVE and not node.kwargs:  # exactly commutative in floating point as well
        arguments.sort(key=str)
    return (node.op, node.target, tuple(arguments), _key(node.kwargs))


def _key(value: object) -> Hashable:
    """Equal for values that are exactly the same argument: ``1``, ``1.0`` and ``True`` differ, and so do ±0.0."""
    if isinstance(value, fx.Node):
        return ("node", value)
    if isinstance(value, (list, tuple)):
        return ("sequence", tuple(_key(item) for item in value))
    if isinstance(value, dict):
        return ("mapping", tuple((name, _key(item)) for name, item in sorted(value.items())))
    if isinstance(value, slice):
        return ("slice", _key(value.start), _key(value.stop), _key(value.step))
    return (type(value), repr(value))


def merge_equal_calls(graph: fx.Graph, context: PassContext, among: Callable[[fx.Node], bool] = lambda _: True) -> None:
    """Replace calls that compute what an earlier one does.

    Args:
        among: which calls may be replaced.
    """
    facts = AliasFacts(graph)
    first: dict[Hashable, fx.Node] = {}
    for node in list(graph.nodes):
        if node.op not in ("call_function", "get_attr") or (node.op == "call_function" and not is_pure(node)):
            continue
        if isinstance(node.target, OpOverload) and node.target.overloadpacket in _UNDEFINED:
            continue
        if any(facts.is_written(n) for n in (node, *node.all_input_nodes)):
            continue
        other = first.setdefault(_call_key(node), node)
        if other is node or not among(node) or (facts.is_returned(node) and facts.is_returned(other)):
            continue
        if not context.admits("equal_calls", (other, node)):
            continue
        node.replace_all_uses_with(other)
        graph.erase_node(node)
        context.remark("applied", "equal_calls", f"{node.name} computes what {other.name} does", (other, node))


def _run(module: fx.GraphModule, context: PassContext) -> None:
    merge_equal_calls(module.graph, context)


CSE = Pass("cse", "Compute equal expressions once.", _run)
