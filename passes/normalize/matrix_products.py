"""Rules that bring matrix products to one form: ``aten.matmul`` of operands with equal leading axes."""

from __future__ import annotations

import string
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from tzwc.ir.graph import insert_call
from tzwc.passes.normalize.reshapes import is_matrix_transpose, permute, reshape
from tzwc.passes.shared.sizes import same_shape, same_size, shape_of
from tzwc.rewrite.patterns import any_, call_arguments, op
from tzwc.rewrite.rules import Match, Rule

__all__ = ["PRODUCT_RULES"]

aten = torch.ops.aten
MADE_BY = "normalize/product"


@dataclass(frozen=True)
class _Einsum:
    """A two-operand ``einsum`` that is a batched matrix product.

    Attributes:
        left, right: operands, in this order.
        left_order, right_order: permutations to `(batch…, row, sum)` and `(batch…, sum, column)`.
        result_order: permutation of `(batch…, row, column)` to the output.
    """

    left: fx.Node
    right: fx.Node
    left_order: tuple[int, ...]
    right_order: tuple[int, ...]
    result_order: tuple[int, ...]


def _expand_ellipsis(terms: list[str], output: str | None, ranks: list[int]) -> tuple[list[str], str] | str:
    """The terms with ``...`` written out, or a reason."""
    lengths = {rank - len(term.replace("...", "")) for term, rank in zip(terms, ranks, strict=True) if "..." in term}
    if len(lengths) > 1 or any(n < 0 for n in lengths):
        return "the ellipsis stands for different numbers of axes"
    used = set("".join(terms))
    letters = [c for c in string.ascii_letters if c not in used][: max(lengths, default=0)]
    if output is None:  # einsum's own rule: letters that occur once, in alphabetical order
        once = [c for c in sorted(used - {"."}) if "".join(terms).count(c) == 1]
        output = ("..." if lengths else "") + "".join(once)
    return [term.replace("...", "".join(letters)) for term in terms], output.replace("...", "".join(letters))


def read_einsum(node: fx.Node) -> _Einsum | str:
    """Understand ``aten.einsum(equation, [a, b])`` as a matrix product, or say why it is none."""
    call = call_arguments(node)
    operands: Any = call["tensors"]
    if len(operands) != 2 or call.get("path"):
        return "einsum has not two operands"
    inputs, arrow, given = call["equation"].replace(" ", "").partition("->")
    ranks = [len(shape_of(x)) for x in operands]
    expanded = _expand_ellipsis(inputs.split(","), given if arrow else None, ranks)
    if isinstance(expanded, str):
        return expanded
    (a, b), out = expanded
    if any(len(set(term)) != len(term) for term in (a, b, out)):
        return "an index occurs twice in one term"
    summed = [c for c in a if c in b and c not in out]
    batch = [c for c in out if c in a and c in b]
    rows, columns = [c for c in a if c not in b], [c for c in b if c not in a]
    if len(summed) != 1 or len(rows) != 1 or len(columns) != 1 or len(out) != len(batch) + 2:
        return f"{call['equation']!r} is not a batched matrix product"
    sizes = [dict(zip(term, shape_of(x), strict=True)) for term, x in zip((a, b), operands, strict=True)]
    if not all(same_size(sizes[0][c], sizes[1][c]) for c in (*batch, *summed)):
        return f"{call['equation']!r} broadcasts an index of size 1"
    left, right = operands
    if out.index(rows[0]) > out.index(columns[0]):  # the operand whose own index comes first stands on the left
        a, b, rows, columns, left, right = b, a, columns, rows, right, left
    product = [*batch, rows[0], columns[0]]
    return _Einsum(
        left,
        right,
        tuple(a.index(c) for c in (*batch, rows[0], summed[0])),
        tuple(b.index(c) for c in (*batch, summed[0], columns[0])),
        tuple(product.index(c) for c in out),
    )


def _check_einsum(match: Match) -> str | None:
    found = read_einsum(match.root)
    return found if isinstance(found, str) else None


def _rewrite_einsum(match: Match, graph: fx.Graph) -> fx.Node:
    found = read_einsum(match.root)
    assert isinstance(found, _Einsum)
    left = permute(graph, found.left, found.left_order, like=match.root)
    right = permute(graph, found.right, found.right_order, like=match.root)
    return permute(graph, _matmul(graph, left, right, match.root), found.result_order, like=match.root)


def _matmul(graph: fx.Graph, left: fx.Node, right: fx.Node, like: fx.Node) -> fx.Node:
    return insert_call(graph, aten.matmul.default, (left, right), like=like, made_by=MADE_BY)


def _check_transposed(match: Match) -> str | None:
    equal = same_shape(shape_of(match["a"])[:-2], shape_of(match["b"])[:-2])
    return None if is_matrix_transpose(match["at"]) and is_matrix_transpose(match["bt"]) and equal else ""


def _rewrite_transposed(match: Match, graph: fx.Graph) -> fx.Node:
    product = _matmul(graph, match["a"], match["b"], match.root)
    rank = len(shape_of(product))
    return permute(graph, product, (*range(rank - 2), rank - 1, rank - 2), like=match.root)


def _check_regrouped(match: Match) -> str | None:
    a, b, flat_a, flat_b = (shape_of(match[name]) for name in ("a", "b", "fa", "fb"))
    keeps = same_shape(a[-2:], flat_a[-2:]) and same_shape(b[-2:], flat_b[-2:])
    return None if keeps and len(a) > 2 and same_shape(a[:-2], b[:-2]) and len(flat_a) == len(flat_b) else ""


def _rewrite_regrouped(match: Match, graph: fx.Graph) -> fx.Node:
    product = _matmul(graph, match["a"], match["b"], match.root)
    # At most one size is symbolic: that of the regrouped axes.
    return reshape(graph, product, shape_of(match.root), like=match.root)


def _check_unexpanded(match: Match) -> str | None:
    """Leave out ``expand`` where ``mul`` broadcasts to the same shape by itself."""
    other = match["y"]
    return None if same_shape(shape_of(other), shape_of(match.root)) else ""


def _rewrite_unexpanded(match: Match, graph: fx.Graph) -> fx.Node:
    first = match["expanded"] is match.root.args[0]
    factors = (match["x"], match["y"]) if first else (match["y"], match["x"])
    return insert_call(graph, aten.mul.Tensor, factors, like=match.root, made_by=MADE_BY)


def _matmul_rule(name: str) -> Rule:
    target = getattr(aten, name).default
    return Rule(
        name,
        f"{name}(a, b) -> matmul(a, b)",
        op(target, any_("a"), any_("b")),
        lambda match, graph: _matmul(graph, match["a"], match["b"], match.root),
        quiet=True,
    )


PRODUCT_RULES: tuple[Rule, ...] = (
    Rule(
        "einsum",
        "einsum('…ik,…kj->…ij', a, b) -> matmul(a, b), with operands transposed as the equation says",
        op(aten.einsum.default, any_rest=True),
        _rewrite_einsum,
        _check_einsum,
    ),
    _matmul_rule("bmm"),
    _matmul_rule("mm"),
    _matmul_rule("linalg_matmul"),
    Rule(
        "multiply",
        "multiply(a, b) -> mul(a, b)",
        op(aten.multiply.Tensor, any_("a"), any_("b")),
        lambda match, graph: insert_call(
            graph, aten.mul.Tensor, (match["a"], match["b"]), like=match.root, made_by=MADE_BY
        ),
        quiet=True,
    ),
    Rule(
        "transposed_product",
        "matmul(bᵀ, aᵀ) -> matmul(a, b)ᵀ",
        op(
            aten.matmul.default,
            op(aten.permute.default, any_("b"), any_rest=True, name="bt"),
            op(aten.permute.default, any_("a"), any_rest=True, name="at"),
        ),
        _rewrite_transposed,
        _check_transposed,
    ),
    Rule(
        "regrouped_product",
        "matmul(reshape(a), reshape(b)) -> reshape(matmul(a, b)) where only leading axes are regrouped",
        op(
            aten.matmul.default,
            op(aten.reshape.default, any_("a"), any_rest=True, name="fa"),
            op(aten.reshape.default, any_("b"), any_rest=True, name="fb"),
        ),
        _rewrite_regrouped,
        _check_regrouped,
    ),
    Rule(
        "unexpanded_factor",
        "mul(expand(x), y) -> mul(x, y) where y has the shape of the result",
        op(
            aten.mul.Tensor,
            op(aten.expand.default, any_("x"), any_rest=True, name="expanded"),
            any_("y"),
            commutative=True,
        ),
        _rewrite_unexpanded,
        _check_unexpanded,
        quiet=True,
    ),
)
"""Canonical products."""
