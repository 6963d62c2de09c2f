"""Recognise the HyperZ·Z·W operator in any graph, in its three forms, and make each one call.

==================  ======================================================  ============================================
dot product         ``matmul(mul(z, k), v)``                                ``hyperzzw_dot(z, k, v)``
convolution         ``conv(v, mul(z, k))``, one group a sample and channel  ``hyperzzw_convolution(z, k, v)``
elementwise         ``mul(mul(z, k), z)``                                   ``hyperzzw_gate(k, z)``
==================  ======================================================  ============================================

Calls that share the product ``z ⊙ k`` are then merged into one with several values, as far as no value depends on the
result for another. Spellings (``einsum``, ``bmm``, ``@``, transposes, reshapes) are the business of ``normalize``.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx
from torch.fx.node import Target

from tzwc.ir.graph import insert_call, tensor_value
from tzwc.ops import hyperzzw_convolution, hyperzzw_dot, hyperzzw_gate
from tzwc.passes.convolution.convolution_calls import CONVOLUTIONS, read_convolution
from tzwc.passes.hyperzzw.merge_values import merge_values
from tzwc.passes.hyperzzw.peel import peel_taps, peel_values
from tzwc.passes.normalize.reshapes import RESHAPE_RULES
from tzwc.passes.shared.sizes import same_shape, same_size, shape_argument, shape_of, static_nodes
from tzwc.rewrite.pass_manager import Pass, PassContext
from tzwc.rewrite.patterns import Miss, Pattern, State, any_, call_arguments, const, either, op
from tzwc.rewrite.rules import Match, Rule, apply_rules

__all__ = ["FUSE_HYPERZZW"]

aten = torch.ops.aten
NAME = "fuse_hyperzzw"


def _is_floating(node: fx.Node) -> bool:
    value = tensor_value(node)
    return value is not None and value.dtype.is_floating_point


def _roles(first: fx.Node, second: fx.Node, static: set[fx.Node]) -> tuple[fx.Node, fx.Node]:
    """``(z, kernel)``. The two are interchangeable; the names go by what does not vary with the sample."""

    def is_kernel(node: fx.Node, other: fx.Node) -> bool:
        if node in static or other in static:
            return node in static
        return shape_of(node)[:1] in ((), (1,)) or len(shape_of(node)) < len(shape_of(other))

    return (second, first) if is_kernel(first, second) else (first, second)


# --- dot product ------------------------------------------------------------------------------------------------------


def _check_dot(match: Match) -> str | None:
    product, value = shape_of(match["product"]), shape_of(match["value"])
    if not _is_floating(match.root):
        return f"{match.root} is not floating-point"
    if len(product) < 3:
        return f"the product has {len(product)} axes; samples or channels and a matrix are expected"
    if not same_shape(product[:-2], value[:-2]):
        return f"values {list(value)} are broadcast against the product {list(product)}; leading sizes must be equal"
    return None


def _dot_rule(static: set[fx.Node]) -> Rule:
    def rewrite(match: Match, graph: fx.Graph) -> fx.Node:
        z, kernel = _roles(match["z"], match["k"], static)
        made_by = f"{NAME}/dot"
        shared: dict[str, Any] = {"product": match["product"]}
        fused = insert_call(graph, hyperzzw_dot, (z, kernel, match["value"]), shared, like=match.root, made_by=made_by)
        return insert_call(graph, operator.getitem, (fused, 0), like=match.root, made_by=made_by)

    return Rule(
        name="dot",
        equation="matmul(mul(z, k), v) -> hyperzzw_dot(z, k, v)",
        pattern=op(aten.matmul.default, op(aten.mul.Tensor, any_("z"), any_("k"), name="product"), any_("value")),
        check=_check_dot,
        rewrite=rewrite,
        near_miss=2,
    )


_PRODUCT_ON_THE_RIGHT = Rule(
    name="dot",
    equation="matmul(v, mul(z, k)) stays",
    pattern=op(aten.matmul.default, any_("value"), op(aten.mul.Tensor, any_("z"), any_("k"))),
    check=lambda _: "the product z ⊙ k is the right operand of the matrix product; the operator has it on the left",
    rewrite=lambda match, _: match.root,
)


# --- convolution ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _PerSampleConvolution(Pattern):
    """A convolution with one group for each sample and channel, whose taps are ``mul(z, k)``.

    Reshapes that keep the spatial axes, zero padding of the values and reversal of the taps are looked through.
    """

    def anchors(self) -> frozenset[Target]:
        return CONVOLUTIONS

    def walk(self, value: object, state: State, miss: Miss) -> Iterator[State]:
        assert isinstance(value, fx.Node)
        call = read_convolution(value)
        assert call is not None  # the root of a rule is one of the anchors
        weight = call_arguments(value)["weight"]
        taps = peel_taps(weight, len(shape_of(weight)) - 2)
        found = State(state.captures, (value, *taps.nodes, taps.source))
        if taps.source.target is not aten.mul.Tensor:
            return
        if isinstance(call, str):
            miss.note(found, call)
            return
        factors = [a for a in taps.source.args[:2] if isinstance(a, fx.Node)]
        lead = shape_of(taps.source)[:2]
        values = peel_values(call.x, call.axes, lead)
        reason = self._objection(call.axes, factors, taps.source, taps.reversed, values is None)
        if reason is None:
            assert values is not None
            reason = self._shape_objection(call, shape_of(taps.source))
        if reason is not None:
            miss.note(found, reason)
            return
        assert values is not None
        padding = tuple((a + c, b + d) for (a, b), (c, d) in zip(call.padding, values.padding, strict=True))
        captures = {
            "z": factors[0],
            "k": factors[1],
            "product": taps.source,
            "value": values.source,
            "padding": padding,
            "reverse": bool(taps.reversed),
        }
        yield State({**state.captures, **captures}, (*found.nodes, *values.nodes))

    def _objection(
        self, axes: int, factors: Sequence[fx.Node], product: fx.Node, flips: frozenset[int], no_values: bool
    ) -> str | None:
        if len(factors) < 2:
            return f"{product} is a tensor times a scalar, not a product of two tensors"
        if not _is_floating(product):
            return f"{product} is not floating-point"
        if len(shape_of(product)) != axes + 2:
            return f"the product {list(shape_of(product))} has not one kernel for each sample and channel"
        if flips and len(flips) != axes:
            return "the taps are reversed along some axes only"
        if no_values:
            return f"the values have not the samples and channels {list(shape_of(product)[:2])} of the product"
        return None

    def _shape_objection(self, call: Any, product: Sequence[Any]) -> str | None:
        if not same_size(call.group_count, product[0] * product[1]):
            return f"{call.group_count} groups; one for each of the {product[0] * product[1]} kernels is expected"
        if any(s != 1 for s in call.stride):
            return f"stride {list(call.stride)} is not 1"
        if call.is_dilated:
            return f"dilation {list(call.dilation)} is not 1"
        if call.bias is not None:
            return "the convolution has a bias"
        return None


def _convolution_rule(static: set[fx.Node]) -> Rule:
    def rewrite(match: Match, graph: fx.Graph) -> fx.Node:
        z, kernel = _roles(match["z"], match["k"], static)
        made_by = f"{NAME}/convolution"
        keywords = {"padding": match["padding"], "reverse": match["reverse"], "product": match["product"]}
        fused = insert_call(
            graph, hyperzzw_convolution, (z, kernel, match["value"]), keywords, like=match.root, made_by=made_by
        )
        result = insert_call(graph, operator.getitem, (fused, 0), like=match.root, made_by=made_by)
        shape = shape_argument(graph, shape_of(match.root), [])
        assert shape is not None  # one symbolic size at most: samples times channels
        return insert_call(graph, aten.reshape.default, (result, shape), like=match.root, made_by=made_by)

    return Rule(
        name="convolution",
        equation="conv(v, mul(z, k)) with a group for each sample and channel -> hyperzzw_convolution(z, k, v)",
        pattern=_PerSampleConvolution(),
        rewrite=rewrite,
        near_miss=2,
    )


# --- two elementwise products -----------------------------------------------------------------------------------------


def _mul(a: Pattern, b: Pattern, name: str = "") -> Pattern:
    return op(aten.mul.Tensor, a, b, commutative=True, name=name)


def _squared() -> Pattern:
    z = any_("z")
    powers = (
        op(aten.pow.Tensor_Scalar, z, const(2), name="inner"),
        op(aten.pow.Tensor_Scalar, z, const(2.0), name="inner"),
    )
    return either(op(aten.mul.Tensor, z, z, name="inner"), op(aten.square.default, z, name="inner"), *powers)


def _check_gate(match: Match) -> str | None:
    if match["z"] is match["k"] or not (_is_floating(match["z"]) and _is_floating(match["k"])):
        return ""
    if tensor_value(match["z"]).dtype != tensor_value(match["k"]).dtype:  # type: ignore[union-attr]
        return "z and the kernel have different dtypes"
    if len(match["inner"].users) > 1:
        return f"{match['inner']} has other uses, so that nothing would be saved"
    return None


_GATE = Rule(
    name="gate",
    equation="mul(mul(z, k), z) -> hyperzzw_gate(k, z)",
    pattern=either(_mul(_mul(any_("z"), any_("k"), "inner"), any_("z")), _mul(_squared(), any_("k"))),
    check=_check_gate,
    rewrite=lambda match, graph: insert_call(
        graph, hyperzzw_gate, (match["k"], match["z"]), like=match.root, made_by=f"{NAME}/gate"
    ),
)


def _run(module: fx.GraphModule, context: PassContext) -> None:
    graph = module.graph
    static = static_nodes(graph, context.static_slots)
    apply_rules(graph, [_dot_rule(static), _PRODUCT_ON_THE_RIGHT, _convolution_rule(static), _GATE], context)
    apply_rules(graph, RESHAPE_RULES, context)
    merge_values(graph, (hyperzzw_dot, hyperzzw_convolution), context)


FUSE_HYPERZZW = Pass(NAME, "Make one call of each HyperZ·Z·W operator, and one of those that share a product.", _run)
