"""Passes with the defects that a bisect is for, and models to try them on."""

from __future__ import annotations

import torch
from torch import Tensor, fx, nn

from tzwc.ir.graph import insert_call, replace_node
from tzwc.rewrite.pass_manager import Pass, PassContext
from tzwc.rewrite.patterns import any_, op
from tzwc.rewrite.rules import Match, Rule, apply_rules

aten = torch.ops.aten


class Chain(nn.Module):
    """Sines and products of one another, so that there are many places for a rewrite."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.linspace(0.5, 1.5, 8))

    def forward(self, x: Tensor) -> Tensor:
        first = (x * self.scale).sin()
        second = (first + 1).exp()
        third = (second * first).tanh()
        fourth = (third + 2).exp()
        return (fourth * second).sum(-1)


def _call(graph: fx.Graph, target: object, arguments: tuple[object, ...], match: Match) -> fx.Node:
    return insert_call(graph, target, arguments, like=match.root, made_by="broken/rule")  # type: ignore[arg-type]


def _rule(name: str, target: object, rewrite: object) -> Rule:
    return Rule(name, f"{name}: {target}", op(target, any_("x")), rewrite)  # type: ignore[arg-type]


# exp -> exp2 once, which is wrong; sin -> -sin(-x), which is right and must not be accused
WRONG_EXP = _rule("wrong_exp", aten.exp.default, lambda m, g: _call(g, aten.exp2.default, (m["x"],), m))


def _harmless(match: Match, graph: fx.Graph) -> fx.Node:
    cosine = _call(graph, aten.sub.Tensor, (match["x"], torch.pi / 2), match)
    return _call(graph, aten.cos.default, (cosine,), match)


RIGHT_SIN = _rule("right_sin", aten.sin.default, _harmless)


def _wrong(module: fx.GraphModule, context: PassContext) -> None:
    apply_rules(module.graph, [RIGHT_SIN, WRONG_EXP], context)


def _raises(module: fx.GraphModule, context: PassContext) -> None:
    for node in list(module.graph.nodes):
        if node.op == "call_function" and context.admits("touch", (node,)) and node.target is aten.tanh.default:
            raise ZeroDivisionError("no hyperbolic functions today")


def _ill_formed(module: fx.GraphModule, context: PassContext) -> None:
    for node in list(module.graph.nodes):
        if node.target is aten.exp.default and context.admits("swap", (node,)):
            node.args[0].append(node)  # harmless
        if node.target is aten.tanh.default and context.admits("swap", (node,)):
            next(iter(module.graph.nodes)).prepend(node)  # before its operand


def _interacting(module: fx.GraphModule, context: PassContext) -> None:
    """Each exponential alone may become a no-op by a factor of 1; both together become wrong."""
    touched = []
    for node in list(module.graph.nodes):
        if node.target in (aten.exp.default, aten.sin.default) and context.admits("mark", (node,)):
            touched.append(node)
    exponentials = [node for node in touched if node.target is aten.exp.default]
    if len(exponentials) == 2:
        last = exponentials[-1]
        with module.graph.inserting_before(last):
            new = insert_call(module.graph, aten.exp2.default, last.args, like=last, made_by="interacting/mark")
        replace_node(last, new)


def _silent(module: fx.GraphModule, context: PassContext) -> None:
    del context
    for node in module.graph.nodes:
        if node.target is aten.exp.default:
            node.target = aten.exp2.default


def _does_not_run(module: fx.GraphModule, context: PassContext) -> None:
    for node in list(module.graph.nodes):
        if node.target is aten.add.Tensor and context.admits("widen", (node,)) and node.args[1] == 2:
            node.args = (node.args[0], "two")


WRONG = Pass("wrong", "Wrong numbers.", _wrong)
RAISES = Pass("raises", "Raises.", _raises)
ILL_FORMED = Pass("ill_formed", "Uses a node before it is defined.", _ill_formed)
INTERACTING = Pass("interacting", "Two rewrites that are wrong together only.", _interacting)
SILENT = Pass("silent", "Wrong numbers, without asking.", _silent)
DOES_NOT_RUN = Pass("does_not_run", "An argument that no operator takes.", _does_not_run)
