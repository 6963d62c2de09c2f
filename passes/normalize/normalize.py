"""Bring a graph to canonical forms, so that few patterns catch many spellings.

- no-ops disappear: dropout outside of training, ``expand`` and ``to`` that change nothing, multiplication by exactly 1;
- in-place operators on fresh temporaries become functional (:mod:`tzwc.passes.normalize.in_place`);
- changes of shape become ``reshape`` and ``permute`` (:mod:`tzwc.passes.normalize.reshapes`);
- elementwise products become ``mul`` (:mod:`tzwc.passes.normalize.elementwise_products`);
- matrix products become ``matmul`` (:mod:`tzwc.passes.normalize.matrix_products`).

Kept on purpose: ``detach`` (it stops gradients), ``clone`` (its result is the caller's own), and the addition of 0,
which turns -0.0 into 0.0.
"""

from __future__ import annotations

import torch
from torch import fx

from tzwc.ir.graph import tensor_value
from tzwc.passes.normalize.elementwise_products import ELEMENTWISE_RULES
from tzwc.passes.normalize.in_place import remove_in_place
from tzwc.passes.normalize.matrix_products import PRODUCT_RULES
from tzwc.passes.normalize.reshapes import LAYOUT_RULES
from tzwc.passes.shared.sizes import same_shape, shape_of
from tzwc.rewrite.pass_manager import Pass, PassContext
from tzwc.rewrite.patterns import any_, call_arguments, const, either, op
from tzwc.rewrite.rules import AliasFacts, Match, Rule, apply_rules

__all__ = ["NORMALIZE"]

aten = torch.ops.aten

# Operators that return their argument itself, or a view of all of it, when the values agree.
_TRANSPARENT = (
    aten.alias.default,
    aten.expand.default,
    aten.expand_as.default,
    aten.broadcast_to.default,
    aten.permute.default,
    aten.contiguous.default,
    aten.to.dtype,
    aten.to.dtype_layout,
    aten.to.device,
    aten.to.other,
    aten.type_as.default,
    aten.slice.Tensor,
)
_DROPOUTS = (aten.dropout.default, aten.feature_dropout.default, aten.alpha_dropout.default)


def _same_tensor(match: Match) -> str | None:
    """Shape, dtype, device and layout agree."""
    before, after = tensor_value(match["x"]), tensor_value(match.root)
    if before is None or after is None:
        return ""
    call = call_arguments(match.root)
    if call.get("copy") or call.get("pin_memory"):
        return ""
    if match.root.target is aten.permute.default and list(call["dims"]) != list(range(before.dim())):
        return ""  # equal sizes do not make equal axes
    same = before.dtype == after.dtype and before.device == after.device and before.layout == after.layout
    same = same and same_shape(shape_of(match["x"]), shape_of(match.root))
    if match.root.target is aten.contiguous.default:
        same = same and before.is_contiguous()
    return None if same else ""


def _draws_nothing(dropout: fx.Node) -> bool:
    call = call_arguments(dropout)
    return call["train"] is False or call["p"] == 0


def _rules(facts: AliasFacts) -> list[Rule]:
    def fresh_copy_is_unseen(match: Match) -> str | None:
        # The caller may write to what it receives, and must not reach a constant or an input by that.
        reason = _same_tensor(match)
        return "" if reason is not None or facts.is_returned(match.root) else None

    def identity(name: str, equation: str, pattern: object, check: object) -> Rule:
        return Rule(name, equation, pattern, lambda match, _: match["x"], check, quiet=True)  # type: ignore[arg-type]

    transparent = either(*(op(target, any_("x"), any_rest=True) for target in _TRANSPARENT))
    dropout = either(*(op(target, any_("x"), any_rest=True) for target in _DROPOUTS))
    one = either(const(1), const(1.0))
    by_one = either(op(aten.mul.Tensor, any_("x"), one), op(aten.div.Tensor, any_("x"), one))
    return [
        identity("no_op", "op(x) -> x where nothing changes", transparent, _same_tensor),
        identity(
            "dropout",
            "dropout(x) -> x where nothing is dropped",
            dropout,
            lambda m: None if _draws_nothing(m.root) else "",
        ),
        identity("times_one", "mul(x, 1) -> x", by_one, fresh_copy_is_unseen),
        identity(
            "fresh_copy",
            "lift_fresh_copy(x) -> x where nobody can write to it",
            op(aten.lift_fresh_copy.default, any_("x")),
            fresh_copy_is_unseen,
        ),
        *LAYOUT_RULES,
        *ELEMENTWISE_RULES,
        *PRODUCT_RULES,
    ]


def _run(module: fx.GraphModule, context: PassContext) -> None:
    remove_in_place(module.graph, context)
    apply_rules(module.graph, _rules(AliasFacts(module.graph)), context)
    for node in reversed(module.graph.nodes):
        # Replaced above; dead-code elimination would keep it for the random numbers that it does not draw.
        if node.target in _DROPOUTS and not node.users and _draws_nothing(node):
            module.graph.erase_node(node)


NORMALIZE = Pass("normalize", "Bring shapes, products and no-ops to canonical forms.", _run)
