"""Rules that find elementwise products in ``einsum`` and below transposes, and write them as ``aten.mul``.

==================  ===============================================  ============================================
``einsum_product``  ``einsum('bik,ik->bik', z, k)``                  ``z ⊙ k``, axes aligned by name
``einsum_factors``  ``einsum('bik,ik,bkj->bij', z, k, v)``           ``einsum('bik,bkj->bij', z ⊙ k, v)``
``moved_factors``   ``permute(z) ⊙ permute(k)``, the same order      ``permute(z ⊙ k)``
==================  ===============================================  ============================================

``einsum`` itself evaluates several operands from left to right, a pair at a time. A pair of which one has all the
letters of the other is multiplied first here, wherever its two stand: the result is no larger than an operand.
"""

from __future__ import annotations

from itertools import combinations

import torch
from torch import fx

from tzwc.ir.graph import insert_call, tensor_value
from tzwc.passes.normalize.reshapes import permutation, permute, reshape
from tzwc.passes.shared.einsum_terms import einsum_terms
from tzwc.passes.shared.sizes import Size, same_size, shape_of
from tzwc.rewrite.patterns import any_, call_arguments, op
from tzwc.rewrite.rules import Match, Rule

__all__ = ["ELEMENTWISE_RULES"]

aten = torch.ops.aten
MADE_BY = "normalize/product"


def _terms(node: fx.Node) -> tuple[list[fx.Node], list[str], str] | None:
    """Operands and letters of an einsum whose indices have one size wherever they occur."""
    call = call_arguments(node)
    operands: list[fx.Node] = list(call["tensors"])
    found = einsum_terms(call["equation"], [len(shape_of(x)) for x in operands])
    if found is None or call.get("path") or any(tensor_value(x) is None for x in operands):
        return None
    terms, output = found
    sizes: dict[str, Size] = {}
    for term, operand in zip(terms, operands, strict=True):
        for letter, size in zip(term, shape_of(operand), strict=True):
            if not same_size(sizes.setdefault(letter, size), size):
                return None  # broadcast, or not provably equal
    return operands, terms, output


def _aligned(graph: fx.Graph, node: fx.Node, term: str, to: str, like: fx.Node) -> fx.Node:
    """``node`` with its axes in the order of ``to``, and axes of size 1 where it has none."""
    order = sorted(range(len(term)), key=lambda axis: to.index(term[axis]))
    ordered = permute(graph, node, order, like=like)
    sizes = dict(zip(term, shape_of(node), strict=True))
    missing = next((i for i, letter in enumerate(to) if letter in sizes), len(to))
    shape = [sizes.get(letter, 1) for letter in to[missing:]]  # leading ones come by broadcasting
    return reshape(graph, ordered, shape, like=like)


def _check_product(match: Match) -> str | None:
    found = _terms(match.root)
    if found is None:
        return ""
    operands, terms, output = found
    letters = [set(term) for term in terms]
    if len(operands) != 2 or set(output) not in letters or any(term - set(output) for term in letters):
        return ""  # a letter is summed over, or the product is an outer one
    return None


def _product(graph: fx.Graph, pairs: list[tuple[fx.Node, str]], to: str, like: fx.Node) -> fx.Node:
    factors = [_aligned(graph, node, term, to, like) for node, term in pairs]
    return insert_call(graph, aten.mul.Tensor, factors, like=like, made_by=MADE_BY)


def _rewrite_product(match: Match, graph: fx.Graph) -> fx.Node:
    found = _terms(match.root)
    assert found is not None
    operands, terms, output = found
    return _product(graph, list(zip(operands, terms, strict=True)), output, match.root)


def _factors(node: fx.Node) -> tuple[int, int] | None:
    """Two operands to multiply first: the one with all letters, then the other."""
    found = _terms(node)
    if found is None or len(found[0]) < 3:
        return None
    _, terms, _ = found
    for i, j in combinations(range(len(terms)), 2):
        if set(terms[i]) < set(terms[j]):
            i, j = j, i
        if set(terms[j]) <= set(terms[i]):
            return i, j
    return None


def _rewrite_factors(match: Match, graph: fx.Graph) -> fx.Node:
    found, chosen = _terms(match.root), _factors(match.root)
    assert found is not None
    assert chosen is not None
    operands, terms, output = found
    large, small = chosen
    pair = [(operands[i], terms[i]) for i in chosen]
    operands[large] = _product(graph, pair, terms[large], match.root)
    del operands[small], terms[small]
    equation = f"{','.join(terms)}->{output}"
    return insert_call(graph, aten.einsum.default, (equation, operands), like=match.root, made_by=MADE_BY)


def _check_moved(match: Match) -> str | None:
    first, second = permutation(match["a"]), permutation(match["b"])
    return None if first == second else ""


def _rewrite_moved(match: Match, graph: fx.Graph) -> fx.Node:
    factors = (match["x"], match["y"])
    product = insert_call(graph, aten.mul.Tensor, factors, like=match.root, made_by=MADE_BY)
    return permute(graph, product, permutation(match["a"]), like=match.root)


ELEMENTWISE_RULES: tuple[Rule, ...] = (
    Rule(
        "einsum_product",
        "einsum('bik,ik->bik', z, k) -> mul(z, k)",
        op(aten.einsum.default, any_rest=True),
        _rewrite_product,
        _check_product,
    ),
    Rule(
        "einsum_factors",
        "einsum('bik,ik,bkj->bij', z, k, v) -> einsum('bik,bkj->bij', mul(z, k), v)",
        op(aten.einsum.default, any_rest=True),
        _rewrite_factors,
        lambda match: None if _factors(match.root) is not None else "",
    ),
    Rule(
        "moved_factors",
        "mul(permute(z), permute(k)) -> permute(mul(z, k))",
        op(
            aten.mul.Tensor,
            op(aten.permute.default, any_("x"), any_rest=True, name="a"),
            op(aten.permute.default, any_("y"), any_rest=True, name="b"),
        ),
        _rewrite_moved,
        _check_moved,
    ),
)
"""Elementwise products in canonical form. They come before the rules for matrix products."""
