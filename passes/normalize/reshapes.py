"""Rules that bring changes of shape to few forms: ``aten.reshape`` for regrouping, ``aten.permute`` for reordering.

``view``, ``flatten``, ``unsqueeze`` and their kin all keep row-major order, so that a chain of them is one reshape,
given by its last shape. A reshape never fails where a view would, and shares memory exactly where the view did.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import fx

from tzwc.ir.graph import insert_call, tensor_value
from tzwc.passes.shared.sizes import Size, same_shape, shape_argument, shape_of
from tzwc.rewrite.patterns import any_, call_arguments, op
from tzwc.rewrite.rules import Match, Rule

__all__ = ["LAYOUT_RULES", "RESHAPE_RULES", "is_matrix_transpose", "permutation", "permute", "reshape"]

aten = torch.ops.aten
MADE_BY = "normalize/layout"

_RESHAPES = (
    aten.view.default,
    aten._unsafe_view.default,
    aten.flatten.using_ints,
    aten.unflatten.int,
    aten.squeeze.default,
    aten.squeeze.dim,
    aten.squeeze.dims,
    aten.unsqueeze.default,
    aten.view_as.default,
    aten.reshape_as.default,
)


def reshape(graph: fx.Graph, node: fx.Node, shape: Sequence[Size], *, like: fx.Node) -> fx.Node:
    """``node`` in another shape, which the caller knows to be expressible: see :func:`shape_argument`."""
    if same_shape(shape_of(node), shape):
        return node
    sizes = shape_argument(graph, shape, [node])
    assert sizes is not None
    return insert_call(graph, aten.reshape.default, (node, sizes), like=like, made_by=MADE_BY)


def permute(graph: fx.Graph, node: fx.Node, order: Sequence[int], *, like: fx.Node) -> fx.Node:
    """``node`` with its axes in another order."""
    if list(order) == list(range(len(order))):
        return node
    return insert_call(graph, aten.permute.default, (node, list(order)), like=like, made_by=MADE_BY)


def permutation(node: fx.Node) -> list[int]:
    """Which axis of its argument each axis of ``node`` is; ``node`` calls an operator that reorders axes."""
    rank = len(shape_of(node.args[0]))
    order = list(range(rank))
    call = list(call_arguments(node).values())
    if node.target is aten.permute.default:
        return [d % rank for d in call[1]]
    if node.target in (aten.mT.default, aten.adjoint.default, aten.mH.default):
        order[-2:] = order[:-3:-1]
    elif node.target in (aten.t.default, aten.numpy_T.default):
        order.reverse()
    elif node.target in (aten.transpose.int, aten.swapaxes.default, aten.swapdims.default):
        if rank:
            a, b = call[1] % rank, call[2] % rank
            order[a], order[b] = order[b], order[a]
    else:
        assert node.target is aten.movedim.int
        order.insert(call[2] % rank, order.pop(call[1] % rank))
    return order


def is_matrix_transpose(permute: fx.Node) -> bool:
    """Whether ``permute`` swaps the last two axes and nothing else."""
    order = permutation(permute)
    swapped = list(range(len(order)))
    swapped[-2:] = swapped[:-3:-1]
    return len(order) >= 2 and order == swapped


def _to_reshape(match: Match, graph: fx.Graph) -> fx.Node:
    return reshape(graph, match["x"], shape_of(match.root), like=match.root)  # `_expressible` has seen to it


def _expressible(match: Match) -> str | None:
    """Only one symbolic size can be left to be inferred, and others must be sizes of the argument."""
    shape = shape_of(match.root)
    symbolic = [s for s in shape if not isinstance(s, int)]
    known = len(symbolic) <= 1 and 0 not in [s for s in shape if isinstance(s, int)]
    if tensor_value(match.root) is None or match.root.meta["val"].dtype != match["x"].meta["val"].dtype:
        return ""
    # A view that keeps its argument's axes may return it as it is, which an output should not notice.
    return None if known else ""


def _keeps_order(match: Match) -> str | None:
    order = permutation(match.root)
    shape = shape_of(match["x"])
    wide = [axis for axis in order if shape[axis] != 1]
    return _expressible(match) if wide == sorted(wide) else ""


def _to_permute(match: Match, graph: fx.Graph) -> fx.Node:
    return permute(graph, match["x"], permutation(match.root), like=match.root)


def _compose(match: Match, graph: fx.Graph) -> fx.Node:
    inner, outer = permutation(match["inner"]), permutation(match.root)
    return permute(graph, match["x"], [inner[axis] for axis in outer], like=match.root)


def _is_real(match: Match) -> str | None:
    value = tensor_value(match["x"])
    return "" if value is None or value.is_complex() else None


def _rule(name: str, equation: str, target: object, rewrite: object, check: object) -> Rule:
    pattern = op(target, any_("x"), any_rest=True)  # type: ignore[arg-type]
    return Rule(name, equation, pattern, rewrite, check, quiet=True)  # type: ignore[arg-type]


RESHAPE_RULES: tuple[Rule, ...] = (
    *(_rule("reshape", f"{t} -> aten.reshape", t, _to_reshape, _expressible) for t in _RESHAPES),
    Rule(
        "reshape_chain",
        "reshape(reshape(x)) -> reshape(x)",
        op(aten.reshape.default, op(aten.reshape.default, any_("x"), any_rest=True), any_rest=True),
        _to_reshape,
        _expressible,
        quiet=True,
    ),
    _rule(
        "reshape_identity",
        "reshape(x, shape of x) -> x",
        aten.reshape.default,
        lambda match, _: match["x"],
        lambda match: None if same_shape(shape_of(match.root), shape_of(match["x"])) else "",
    ),
)
"""Canonical reshapes; each is silent, since a model has hundreds of them."""

LAYOUT_RULES: tuple[Rule, ...] = (
    *RESHAPE_RULES,
    _rule(
        "permute_as_reshape",
        "permute(x) -> reshape(x) where only axes of size 1 move",
        aten.permute.default,
        _to_reshape,
        _keeps_order,
    ),
    *(
        _rule("permute", f"{t} -> aten.permute", t, _to_permute, _is_real)
        for t in (
            aten.mT.default,
            aten.adjoint.default,
            aten.mH.default,
            aten.t.default,
            aten.numpy_T.default,
            aten.transpose.int,
            aten.swapaxes.default,
            aten.swapdims.default,
            aten.movedim.int,
        )
    ),
    Rule(
        "permute_chain",
        "permute(permute(x)) -> permute(x)",
        op(aten.permute.default, op(aten.permute.default, any_("x"), any_rest=True, name="inner"), any_rest=True),
        _compose,
        quiet=True,
    ),
)
"""Canonical reshapes and permutations."""
