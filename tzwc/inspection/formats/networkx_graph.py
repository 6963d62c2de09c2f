"""A graph as a networkx multigraph, and as GraphML through it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from torch import fx

from tzwc.inspection.formats.call_targets import qualified_name
from tzwc.inspection.values_and_costs import ESTIMATES, estimates
from tzwc.ir.graph import location
from tzwc.ir.snapshot import StageRecord
from tzwc.ir.values import describe, value_of

if TYPE_CHECKING:
    import networkx as nx

__all__ = ["to_graphml", "to_networkx", "uses"]


def to_networkx(stage: StageRecord | fx.Graph) -> nx.MultiDiGraph:
    """The data flow as a ``networkx.MultiDiGraph`` from operands to results.

    Nodes are named as in the graph, with the text attributes ``op``, ``target``, ``value`` (dtype and shape),
    ``module_path``, ``file``, ``code``, ``made_by``, ``binding``, the integer ``line``, and the estimates ``flops``,
    ``seconds`` and ``bytes`` where known. The key of an
    edge is the place of the operand among the arguments: ``"0"``, ``"1.2"`` (third item of the second argument),
    ``"weight"``.
    """
    import networkx as nx

    graph = stage.graph if isinstance(stage, StageRecord) else stage
    result = nx.MultiDiGraph(name=stage.name if isinstance(stage, StageRecord) else "graph")
    costs = estimates(graph)
    for node in graph.nodes:
        figures = dict(zip(ESTIMATES, costs[node], strict=True)) if node in costs else {}
        result.add_node(node.name, **_attributes(node), **figures)
    for node in graph.nodes:
        for place, operand in uses(node):
            result.add_edge(operand.name, node.name, key=place)
    return result


def to_graphml(stage: StageRecord | fx.Graph) -> str:
    """The data flow as GraphML, which yEd, Gephi and Cytoscape read."""
    import networkx as nx

    return "\n".join(nx.generate_graphml(to_networkx(stage), named_key_ids=True)) + "\n"


def uses(node: fx.Node) -> Iterator[tuple[str, fx.Node]]:
    """The operands of ``node`` with their places among its arguments; an operand used twice comes twice."""
    for position, argument in enumerate(node.args):
        yield from _operands(argument, str(position))
    for name, argument in node.kwargs.items():
        yield from _operands(argument, name)


def _operands(argument: object, place: str) -> Iterator[tuple[str, fx.Node]]:
    if isinstance(argument, fx.Node):
        yield place, argument
    elif isinstance(argument, (list, tuple)):
        for position, item in enumerate(argument):
            yield from _operands(item, f"{place}.{position}")
    elif isinstance(argument, dict):
        for key, item in argument.items():
            yield from _operands(item, f"{place}.{key}")
    elif isinstance(argument, slice):
        for name in ("start", "stop", "step"):
            yield from _operands(getattr(argument, name), f"{place}.{name}")


def _attributes(node: fx.Node) -> dict[str, Any]:
    where = location(node)
    attributes = {
        "op": node.op,
        "target": qualified_name(node.target),
        "value": describe(value_of(node)),
        "module_path": where.module_path,
        "file": where.file,
        "line": where.line,
        "code": where.code,
        "made_by": node.meta.get("tzwc_made_by"),
        "binding": node.meta.get("tzwc_binding"),
    }
    return {name: value for name, value in attributes.items() if value not in (None, "")}
