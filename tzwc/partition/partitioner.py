"""Split a graph into a static program, evaluated when a slot changes, and a residual graph, run at every call."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from tzwc.ir.graph import is_pure, may_alias, order_placeholders, remove_dead_code
from tzwc.partition.min_cut import CachedValue

__all__ = ["Split", "StaticProgram", "identical_results", "results_as_captured", "results_of", "split"]


@dataclass(frozen=True)
class StaticProgram:
    """Evaluates kept values from slots, node by node in eager mode.

    Eager, because its results are then bit for bit those of the module: sine networks with a large angular frequency
    turn a differently rounded argument into a visibly different kernel.

    Attributes:
        values: what is kept, in graph order.
        order: every node that any value needs, in execution order; placeholders excluded.
        needs: for each value, the subset of ``order`` that computes it.
    """

    values: tuple[CachedValue, ...]
    order: tuple[fx.Node, ...]
    needs: tuple[frozenset[fx.Node], ...]

    def evaluate(self, slots: dict[str, torch.Tensor], wanted: Sequence[int]) -> list[torch.Tensor]:
        """Compute the values with the indices ``wanted`` from the tensors in ``slots``, by placeholder name.

        A result never shares memory with a slot, so that writing to a parameter cannot change what was kept, and
        never holds on to more memory than its own size.
        """
        nodes = frozenset[fx.Node]().union(*(self.needs[i] for i in wanted))
        results: dict[fx.Node, Any] = {}

        def value_of(node: fx.Node) -> Any:
            return slots[node.name] if node.op == "placeholder" else results[node]

        for node in self.order:
            if node in nodes:
                args, kwargs = fx.node.map_arg((node.args, node.kwargs), value_of)
                assert callable(node.target)
                results[node] = node.target(*args, **kwargs)
        memory = {t.untyped_storage().data_ptr() for t in slots.values()}
        outputs: list[torch.Tensor] = []
        for index in wanted:
            tensor = results[self.values[index].node]
            assert isinstance(tensor, torch.Tensor)
            storage = tensor.untyped_storage()
            shared = storage.data_ptr() in memory or storage.nbytes() > tensor.nbytes
            outputs.append(tensor.clone() if shared else tensor)
        return outputs


@dataclass(frozen=True)
class Split:
    """A graph in two parts.

    Attributes:
        program: the static part.
        residual: takes slots, kept values and inputs, in that order, and returns the outputs of the whole.
        slots: names of the slots that the residual still reads.
    """

    program: StaticProgram
    residual: fx.GraphModule
    slots: tuple[str, ...]


def split(module: fx.GraphModule, slots: Sequence[str], inputs: Sequence[str]) -> Split:
    """Split the graph of ``module`` at the nodes that carry ``tzwc_cached``.

    Args:
        slots, inputs: names of its placeholders.
    """
    values = tuple(n.meta["tzwc_cached"] for n in module.graph.nodes if "tzwc_cached" in n.meta)
    program = _program(module.graph, values)
    residual = _residual(module, values)
    _protect_kept_values(residual.graph, {f"kept_{i}" for i in range(len(values))})
    for name in slots:
        placeholder = next(n for n in residual.graph.nodes if n.op == "placeholder" and n.name == name)
        if not placeholder.users:
            residual.graph.erase_node(placeholder)
    names = [n.name for n in residual.graph.nodes if n.op == "placeholder"]
    kept_slots = tuple(name for name in names if name in set(slots))
    order_placeholders(residual.graph, [*kept_slots, *(f"kept_{i}" for i in range(len(values))), *inputs])
    residual.graph.lint()
    residual.recompile()
    return Split(program, residual, kept_slots)


def results_of(graph: fx.Graph) -> tuple[Any, ...]:
    """What ``graph`` returns: nodes and constants."""
    output = next(n for n in reversed(graph.nodes) if n.op == "output")
    return tuple(output.args[0])


def identical_results(graph: fx.Graph) -> list[tuple[int, int]]:
    """Results that are an argument or an earlier result, the very object: compiled code returns views of these.

    Returns:
        Pairs: position of the result; position of the argument, or ``~position`` of the earlier result.
    """
    arguments = [node for node in graph.nodes if node.op == "placeholder"]
    results = results_of(graph)
    found: list[tuple[int, int]] = []
    for index, result in enumerate(results):
        if isinstance(result, fx.Node) and isinstance(result.meta.get("val"), torch.Tensor):
            if result.op == "placeholder":
                found.append((index, arguments.index(result)))
            elif result in results[:index]:
                found.append((index, ~results.index(result)))
    return found


def results_as_captured(graph: fx.Graph, captured: Sequence[Any]) -> None:
    """Let results be objects of their own where they were: passes leave out views that change nothing.

    Args:
        graph: after the passes.
        captured: :func:`results_of` before them.
    """
    output = next(n for n in reversed(graph.nodes) if n.op == "output")
    results = list(results_of(graph))
    for index, (result, before) in enumerate(zip(results, captured, strict=True)):
        if not isinstance(result, fx.Node) or not isinstance(result.meta.get("val"), torch.Tensor):
            continue
        given = result.op == "placeholder" and before is not result
        twice = any(r is result and b is not before for r, b in zip(results[:index], captured[:index], strict=True))
        if given or twice:
            with graph.inserting_before(output):
                view = graph.call_function(torch.ops.aten.alias.default, (result,))
            view.meta = {k: v for k, v in result.meta.items() if k != "tzwc_cached"}
            results[index] = view
    output.args = (tuple(results),)


def _program(graph: fx.Graph, values: tuple[CachedValue, ...]) -> StaticProgram:
    needs = []
    for value in values:
        cone: set[fx.Node] = set()
        pending = [value.node]
        while pending:
            node = pending.pop()
            if node.op != "placeholder" and node not in cone:
                cone.add(node)
                pending.extend(node.all_input_nodes)
        needs.append(frozenset(cone))
    everything = frozenset[fx.Node]().union(*needs)
    return StaticProgram(values, tuple(n for n in graph.nodes if n in everything), tuple(needs))


def _residual(module: fx.GraphModule, values: tuple[CachedValue, ...]) -> fx.GraphModule:
    graph = fx.Graph()
    mapping: dict[fx.Node, fx.Node] = {}
    for node in module.graph.nodes:
        if node.op == "placeholder":
            mapping[node] = graph.node_copy(node, lambda n: mapping[n])
    for index, value in enumerate(values):
        kept = graph.placeholder(f"kept_{index}")
        kept.meta = {k: v for k, v in value.node.meta.items() if k != "tzwc_cached"}
        mapping[value.node] = kept
    for node in module.graph.nodes:
        if node not in mapping:
            mapping[node] = graph.node_copy(node, lambda n: mapping[n])
    remove_dead_code(graph)
    return fx.GraphModule(module, graph, "Residual")


def _protect_kept_values(graph: fx.Graph, kept: set[str]) -> None:
    """Return what is computed from a copy of a kept value, never its memory: the caller may write to what he gets.

    Results that share memory share that of one copy.
    """
    output = next(n for n in reversed(graph.nodes) if n.op == "output")
    copies: dict[fx.Node, fx.Node] = {}

    def copied(node: fx.Node) -> fx.Node:
        """``node``, or the same value in copied memory where it may share a kept value's."""
        if node not in copies:
            sources = {source: copied(source) for source in may_alias(node)}
            if node.name not in kept and all(source is copy for source, copy in sources.items()):
                copies[node] = node
            elif sources and (is_pure(node) or node.target is operator.getitem):
                copies[node] = graph.node_copy(node, lambda n: sources.get(n, n))
            else:
                copies[node] = graph.call_function(torch.ops.aten.clone.default, (node,))
                copies[node].meta = dict(node.meta)
        return copies[node]

    with graph.inserting_before(output):
        for result in output.all_input_nodes:
            copy = copied(result)
            if copy is not result:
                output.replace_input_with(result, copy)
