"""The rewriting engine: matching, declining, near misses, and what it must not touch."""

from __future__ import annotations

import math

import pytest
import torch
from torch import fx

from tests.support.pass_testing import assert_unchanged, capture_function
from tzwc.ir.graph import insert_call
from tzwc.rewrite.pass_manager import PassContext
from tzwc.rewrite.patterns import any_, call_arguments, const, either, op, same_constant
from tzwc.rewrite.rules import Match, Rule, apply_rules

aten = torch.ops.aten
K, X = torch.randn(4, 5, dtype=torch.float64), torch.randn(3, 4, 5, dtype=torch.float64)


def fma(c, a, b):
    return c + a * b


def _fma(match: Match, graph: fx.Graph) -> fx.Node:
    arguments = (match["c"], match["a"], match["b"])
    return insert_call(graph, fma, arguments, like=match.root, made_by="test/fma")


def _rule(**changes) -> Rule:
    product = op(aten.mul.Tensor, any_("a"), any_("b"))
    settings = {
        "name": "fma",
        "equation": "add(mul(a, b), c) -> fma(c, a, b)",
        "pattern": op(aten.add.Tensor, product, any_("c"), commutative=True),
        "rewrite": _fma,
    }
    return Rule(**(settings | changes))


def _apply(function, *rules):
    program = capture_function(function, [K], X)
    context = PassContext("test", {}, program.slot_names)
    count = apply_rules(program.module.graph, rules, context)
    program.module.recompile()
    assert_unchanged(program)
    return program, count, context.remarks


def test_a_match_is_replaced_everywhere_and_reported():
    program, count, remarks = _apply(lambda k, x: (x + k * x) + k * k, _rule())
    assert count == 2
    assert [n.target for n in program.module.graph.nodes].count(fma) == 2
    assert [r.kind for r in remarks] == ["applied", "applied"]
    assert remarks[0].reason == _rule().equation
    assert not program.counts()["aten.mul.Tensor"]


def test_arguments_that_are_not_mentioned_must_have_their_defaults():
    _, count, _ = _apply(lambda k, x: torch.add(k * x, x, alpha=2), _rule())
    assert count == 0


def test_a_check_declines_with_its_reason_once():
    rule = _rule(check=lambda match: f"{match['c'].name} is not wanted")
    _, count, remarks = _apply(lambda k, x: torch.sin(k * x + x), rule)
    assert count == 0
    assert [(r.kind, r.reason) for r in remarks] == [("declined", "x is not wanted")] or remarks[0].kind == "declined"
    assert len(remarks) == 1


def test_a_near_miss_names_the_first_condition_that_failed():
    rule = _rule(near_miss=2)
    _, count, remarks = _apply(lambda k, x: k * x + 1.5, rule)
    assert count == 0
    assert "'c' is the constant 1.5" in remarks[0].reason
    assert not _apply(lambda k, x: k - x + 1.5, rule)[2]


def test_a_near_miss_names_the_calls_that_did_fit():
    product = op(aten.mul.Tensor, any_("a"), any_("b"), name="twice")
    rule = _rule(
        pattern=op(aten.add.Tensor, product, op(aten.mul.Tensor, any_("c"), any_("d"), name="twice")), near_miss=2
    )
    _, count, remarks = _apply(lambda k, x: k * x + x * x, rule)
    assert count == 0
    assert "'twice' would have to be both mul and mul_1" in remarks[0].reason
    assert remarks[0].nodes == ("add", "mul")


def test_a_rewrite_that_is_not_admitted_is_left_alone():
    program = capture_function(lambda k, x: (x + k * x) + (x + k * k), [K], X)
    asked = []
    context = PassContext("test", {}, program.slot_names, chooser=lambda r: asked.append(str(r)) or r.node == "add")
    assert apply_rules(program.module.graph, [_rule()], context) == 1
    assert set(asked) == {"fma@add", "fma@add_1"}
    assert len(context.remarks) == 1


def test_nothing_is_rewritten_that_the_program_writes_to():
    def function(k, x):
        y = k * x
        row = y[0]
        z = y + x
        row.add_(1)
        return z + row

    _, count, remarks = _apply(function, _rule())
    assert count == 0
    assert "writes to" in remarks[0].reason


def test_a_name_that_occurs_twice_is_one_node():
    square = Rule(
        "square",
        "mul(x, x) -> square(x)",
        op(aten.mul.Tensor, any_("x"), any_("x")),
        lambda match, graph: insert_call(graph, aten.square.default, (match["x"],), like=match.root, made_by="t/s"),
    )
    program, count, _ = _apply(lambda k, x: x * x + k * x, square)
    assert count == 1
    assert program.counts()["aten.mul.Tensor"] == 1


@pytest.mark.parametrize(
    ("pattern", "count", "reason"),
    [
        (op(fma, any_("c"), any_("a"), any_("b")), 1, None),
        (op(fma, any_("c"), any_("a"), any_rest=True), 1, None),
        (op(fma, any_("c"), any_("a")), 0, "fma has the extra argument inputs_0"),
        (op(fma, any_("c"), any_("a"), any_("b"), any_("d")), 0, "fma has 3 arguments where 4 are expected"),
        (op(fma, any_("c"), any_("c"), any_("b")), 0, "'c' would have to be both inputs_0 and p_weights_0"),
        (op(fma, any_("c"), any_("a"), const(1.0)), 0, "inputs_0 is not exactly 1.0"),
    ],
)
def test_calls_of_functions_without_a_schema(pattern, count, reason):
    program = capture_function(lambda k, x: torch.sin(x + k * x), [K], X)
    context = PassContext("test", {}, program.slot_names)
    assert apply_rules(program.module.graph, [_rule()], context) == 1
    rule = Rule("checked", "fma(...)", pattern, _fma_again, near_miss=1)
    context = PassContext("test", {}, program.slot_names)
    assert apply_rules(program.module.graph, [rule], context) == count
    program.module.recompile()
    assert_unchanged(program)
    assert [remark.reason for remark in context.remarks if remark.kind == "declined"] == ([reason] if reason else [])


def _fma_again(match: Match, graph: fx.Graph) -> fx.Node:
    """The same by an operator, so that the rule does not fit once more."""
    c, a, b = match.root.args
    return insert_call(graph, aten.addcmul.default, (c, a, b), like=match.root, made_by="test/addcmul")


def test_rules_that_undo_each_other_come_to_an_end():
    def swap(target):
        return lambda match, graph: insert_call(graph, target, (match["x"],), like=match.root, made_by="t/swap")

    program = capture_function(lambda k, x: torch.neg(k * x).exp(), [K], X)
    rules = [
        Rule("there", "neg -> negative", op(aten.neg.default, any_("x")), swap(aten.negative.default)),
        Rule("back", "negative -> neg", op(aten.negative.default, any_("x")), swap(aten.neg.default)),
    ]
    context = PassContext("test", {}, program.slot_names)
    sweeps = len(program.module.graph.nodes) + 8
    assert apply_rules(program.module.graph, rules, context) == sweeps
    program.module.recompile()
    assert_unchanged(program)


def test_alternatives_and_exact_constants():
    half = either(op(aten.mul.Tensor, any_("x"), const(0.5)), op(aten.div.Tensor, any_("x"), const(2.0)))
    rule = Rule(
        "half",
        "mul(x, 0.5) | div(x, 2.0) -> sub(x, mul(x, 0.5))",
        half,
        lambda match, graph: insert_call(graph, aten.ldexp.Tensor, (match["x"], -1), like=match.root, made_by="t/h"),
        check=lambda _: "counted only",
    )
    _, _, remarks = _apply(lambda k, x: x * 0.5 + k / 2.0 + x * 0.25 + x / 2, rule)
    assert len(remarks) == 2


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        (1, 1.0, False),
        (True, 1, False),
        (0.0, -0.0, False),
        (math.nan, math.nan, True),
        ([1, 2], (1, 2), True),
        ([1, 2.0], [1, 2], False),
        (None, None, True),
    ],
)
def test_constants_are_compared_exactly(a, b, same):
    assert same_constant(a, b) is same


def test_arguments_come_by_name_with_defaults():
    program = capture_function(lambda k, x: torch.add(x, k, alpha=3).sum(1), [K], X)
    add, total = (n for n in program.module.graph.nodes if n.op == "call_function")
    assert list(call_arguments(add)) == ["self", "other", "alpha"]
    assert call_arguments(add)["alpha"] == 3
    assert call_arguments(total)["keepdim"] is False
