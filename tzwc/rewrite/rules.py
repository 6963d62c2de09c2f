"""Rewrite rules as values: a pattern, a check that can say why not, and a rewrite.

>>> gate = Rule(
...     name="gate",
...     equation="mul(mul(z, k), z) -> hyperzzw_gate(k, z)",
...     pattern=op(aten.mul.Tensor, op(aten.mul.Tensor, any_("z"), any_("k")), any_("z")),
...     rewrite=lambda match, graph: insert_call(graph, hyperzzw_gate, (match["k"], match["z"]), ...),
... )
>>> apply_rules(module.graph, [gate], context)

A name that occurs twice in a pattern must stand for the same node, and constants match exactly: in type, value and
sign of zero. Arguments that a pattern does not mention must have their defaults.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import fx

from tzwc.ir.graph import alias_groups, is_pure, mutated_arguments, replace_node
from tzwc.rewrite.pass_manager import PassContext
from tzwc.rewrite.patterns import Miss, Pattern, State

__all__ = ["AliasFacts", "Match", "Rule", "apply_rules", "erase_if_dead"]


@dataclass(frozen=True)
class Match:
    """What a pattern found.

    Attributes:
        root: the node that the rewrite will replace.
        captures: named parts.
        nodes: every call that the pattern covers, ``root`` first.
    """

    root: fx.Node
    captures: Mapping[str, Any]
    nodes: tuple[fx.Node, ...]

    def __getitem__(self, name: str) -> Any:
        return self.captures[name]


@dataclass(frozen=True)
class Rule:
    """One rewrite.

    Attributes:
        name: unique within a pass; stamped into remarks.
        equation: the rule as one line, ``Add(MatMul(a, b), c) -> Gemm(a, b, c)``.
        pattern: what to look for; an :func:`op`, or :func:`either` of several.
        rewrite: inserts the replacement (the graph's insertion point is set) and returns it.
        check: why a match must be left alone, or ``None``; an empty string declines without a remark.
        numbers: figures for the remark of an applied rewrite.
        near_miss: speak about a failed pattern when at least this many of its calls were found; 0 for never.
        quiet: applied rewrites are not reported, because there would be very many of no interest.
    """

    name: str
    equation: str
    pattern: Pattern
    rewrite: Callable[[Match, fx.Graph], fx.Node]
    check: Callable[[Match], str | None] = lambda _: None
    numbers: Callable[[Match], dict[str, float | int | str]] = lambda _: {}
    near_miss: int = 0
    quiet: bool = False

    def match(self, node: fx.Node) -> tuple[Match | None, Miss]:
        """The first match with ``node`` as its root, and the nearest miss."""
        miss = Miss()
        for state in self.pattern.walk(node, State(), miss):
            return Match(node, state.captures, state.nodes), miss
        return None, miss


class AliasFacts:
    """Which nodes may share memory with something that the program writes to, or with what it returns."""

    def __init__(self, graph: fx.Graph) -> None:
        groups = alias_groups(graph)
        written = {groups[a] for node in graph.nodes for a in mutated_arguments(node)}
        returned = {groups[a] for node in graph.nodes if node.op == "output" for a in node.all_input_nodes}
        self._written = {node: group in written for node, group in groups.items()}
        self._returned = {node: group in returned for node, group in groups.items()}

    def is_written(self, node: fx.Node) -> bool:
        """Whether some call writes to memory of ``node``."""
        return self._lookup(self._written, node)

    def is_returned(self, node: fx.Node) -> bool:
        """Whether the caller may receive memory of ``node``."""
        return self._lookup(self._returned, node)

    def _lookup(self, table: dict[fx.Node, bool], node: fx.Node) -> bool:
        if node not in table:  # made by a rewrite since: as its arguments
            table[node] = any(self._lookup(table, argument) for argument in node.all_input_nodes)
        return table[node]


def apply_rules(graph: fx.Graph, rules: Sequence[Rule], context: PassContext) -> int:
    """Apply ``rules`` from the first node to the last, again and again until none fits; the number of rewrites.

    A match is left alone when one of its calls, or a tensor that they read, shares memory with something that the
    program writes to.
    """
    total = 0
    said: set[tuple[str, str, str]] = set()
    anchors = [(rule, rule.pattern.anchors()) for rule in rules]

    def fitting(node: fx.Node) -> list[Rule]:
        return [rule for rule, targets in anchors if targets is None or node.target in targets]

    for _ in range(len(graph.nodes) + 8):  # each sweep makes progress; the bound catches rules that undo each other
        facts = AliasFacts(graph)
        changed = sum(_visit(node, graph, fitting(node), context, facts, said) for node in list(graph.nodes))
        total += changed
        if not changed:
            break
    return total


def _visit(
    node: fx.Node,
    graph: fx.Graph,
    rules: Sequence[Rule],
    context: PassContext,
    facts: AliasFacts,
    said: set[tuple[str, str, str]],
) -> bool:
    if node.op != "call_function" or node._erased or not node.users:
        return False

    def decline(rule: Rule, reason: str, nodes: Sequence[fx.Node]) -> None:
        key = (rule.name, node.name, reason)
        if reason and key not in said:
            said.add(key)
            context.remark("declined", rule.name, reason, nodes)

    for rule in rules:
        match, miss = rule.match(node)
        if match is None:
            if rule.near_miss and miss.depth >= rule.near_miss:
                decline(rule, miss.reason, miss.nodes)
            continue
        reads = {a for n in match.nodes for a in (n, *n.all_input_nodes)}
        written = next((n for n in sorted(reads) if facts.is_written(n)), None)
        reason = rule.check(match) if written is None else f"{written} shares memory that the program writes to"
        if reason is not None:
            decline(rule, reason, match.nodes)
            continue
        if not context.admits(rule.name, match.nodes):
            continue
        with graph.inserting_before(node):
            new = rule.rewrite(match, graph)
        if not rule.quiet:
            context.remark("applied", rule.name, rule.equation, match.nodes, **rule.numbers(match))
        replace_node(node, new)
        erase_if_dead(node)
        return True
    return False


def erase_if_dead(node: fx.Node) -> None:
    """Erase ``node`` when nothing uses it and it has no effect, then its arguments likewise."""
    if node.users or node._erased or not is_pure(node):
        return
    arguments = node.all_input_nodes
    node.graph.erase_node(node)
    for argument in arguments:
        erase_if_dead(argument)
