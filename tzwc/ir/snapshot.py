"""Stages: the graph after every pass, remembered at the price of a few references for each node."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, is_dataclass, replace
from typing import TYPE_CHECKING, Any

from torch import fx, nn

from tzwc.errors import InvalidArgumentError
from tzwc.ir.remarks import Remark
from tzwc.util.argument_checks import exact, examined, shown

if TYPE_CHECKING:
    import networkx as nx
    from torch import Tensor

__all__ = ["Snapshot", "Stage", "copy_graph", "snapshot"]


class Snapshot:
    """What a graph was at one moment.

    Arguments of nodes and metadata values are immutable or never changed in place, so references to them are enough;
    a graph of nodes is made from them when somebody looks. (Copying 2,400 nodes at once takes 90 ms, noting them 3.)
    """

    def __init__(self, graph: fx.Graph) -> None:
        self._nodes = list(graph.nodes)
        self._facts = [(n.op, n.target, n.args, n.kwargs, n.name, n.type) for n in self._nodes]
        self._metadata = [dict(n.meta) for n in self._nodes]
        self._graph: fx.Graph | None = None

    def same(self, other: Snapshot) -> bool:
        """Whether nothing differs, not even metadata: then one of the two is enough."""
        return (
            len(self._nodes) == len(other._nodes)
            and all(a is b for a, b in zip(self._nodes, other._nodes, strict=True))
            and all(map(_identical, self._facts, other._facts))
            and all(
                a.keys() == b.keys() and all(value is b[key] for key, value in a.items())
                for a, b in zip(self._metadata, other._metadata, strict=True)
            )
        )

    def graph(self) -> fx.Graph:
        """The graph, with nodes of its own."""
        if self._graph is None:
            copy = fx.Graph()
            mapping: dict[fx.Node, fx.Node] = {}
            for node, facts, meta in zip(self._nodes, self._facts, self._metadata, strict=True):
                op, target, args, kwargs, name, type_ = facts
                args, kwargs = fx.node.map_arg((args, kwargs), mapping.__getitem__)
                new = copy.create_node(op, target, args, kwargs, name, type_)
                new.name = name  # torch.fx alters names that look like builtins
                new.meta = dict(meta)
                mapping[node] = new
            _own_kept_values(mapping)
            self._graph = copy
        return self._graph


def _identical(a: tuple[Any, ...], b: tuple[Any, ...]) -> bool:
    return all(x is y for x, y in zip(a, b, strict=True))


def copy_graph(graph: fx.Graph) -> fx.Graph:
    """A copy of ``graph`` that shares metadata values but none of the nodes."""
    return Snapshot(graph).graph()


def _own_kept_values(mapping: Mapping[fx.Node, fx.Node]) -> None:
    """Let the records of kept values name the nodes of the copy."""
    for new in mapping.values():
        kept: Any = new.meta.get("tzwc_cached")
        if is_dataclass(kept) and not isinstance(kept, type) and getattr(kept, "node", None) in mapping:
            new.meta["tzwc_cached"] = replace(kept, node=new)  # type: ignore[call-arg, unused-ignore]


snapshot = copy_graph


@dataclass(frozen=True)
class Stage:
    """The graph after one pass.

    Attributes:
        name: the pass, or ``"capture"`` for the graph as captured.
        source: the graph, or a note of what it was.
        remarks: what the pass said.
        seconds: wall time of the pass.
        root: holds what ``get_attr`` nodes refer to; ``None`` when the graph itself knows.
        slots: dotted parameter or buffer name by placeholder name; the other placeholders are inputs.
    """

    name: str
    source: fx.Graph | Snapshot = field(repr=False)
    remarks: tuple[Remark, ...] = ()
    seconds: float = 0.0
    root: nn.Module | None = field(default=None, repr=False, compare=False)
    slots: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)

    @property
    def graph(self) -> fx.Graph:
        """The graph, which nothing changes any more; its nodes carry the metadata described in ``tzwc.ir.graph``."""
        return self.source.graph() if isinstance(self.source, Snapshot) else self.source

    # --- forms, each imported when it is asked for ------------------------------------------------------------------

    def to_python(self) -> str:
        """The graph as Python text: a module with ``forward``, and a script that runs it on random arguments."""
        from tzwc.inspection.text.python_source import to_python

        return to_python(self, script=True)

    def to_dict(self) -> dict[str, Any]:
        """The stage as JSON-safe data; :meth:`from_dict` reads it.

        Raises:
            InvalidArgumentError: an argument of a node has no such form.
        """
        from tzwc.inspection.formats.json_graph import stage_to_dict

        return stage_to_dict(self)

    def to_json(self, *, indent: int | None = None) -> str:
        """The stage as JSON text, with its remarks; :meth:`from_json` reads it without loss."""
        return json.dumps(self.to_dict(), indent=indent, allow_nan=False, ensure_ascii=False)

    @classmethod
    def from_dict(
        cls,
        data: Mapping[str, Any],
        *,
        constants: Mapping[str, Tensor] | None = None,
        targets: Mapping[str, Callable[..., Any]] | None = None,
    ) -> Stage:
        """The stage that :meth:`to_dict` wrote; for the arguments see :func:`tzwc.inspection.graph_from_dict`.

        Raises:
            InvalidArgumentError: ``data`` is malformed, or names a function that is not admitted.
        """
        from tzwc.inspection.formats.json_graph import stage_from_dict

        return stage_from_dict(data, constants=constants, targets=targets)

    @classmethod
    @examined("text")
    def from_json(
        cls,
        text: str,
        *,
        constants: Mapping[str, Tensor] | None = None,
        targets: Mapping[str, Callable[..., Any]] | None = None,
    ) -> Stage:
        """The stage that :meth:`to_json` wrote, as :meth:`from_dict`."""
        try:
            data = json.loads(exact(text))
        except (ValueError, TypeError, RecursionError) as error:
            raise InvalidArgumentError(f"text={shown(text, 40)} is not JSON ({error}): expected a stage") from error
        return cls.from_dict(data, constants=constants, targets=targets)

    def to_networkx(self) -> nx.MultiDiGraph:
        """The data flow as a ``networkx.MultiDiGraph``; see :func:`tzwc.inspection.to_networkx`."""
        from tzwc.inspection.formats.networkx_graph import to_networkx

        return to_networkx(self)

    def to_graphml(self) -> str:
        """The data flow as GraphML, which yEd, Gephi and Cytoscape read."""
        from tzwc.inspection.formats.networkx_graph import to_graphml

        return to_graphml(self)

    def to_dot(self) -> str:
        """The graph in the DOT language of Graphviz."""
        from tzwc.inspection.formats.dot import to_dot

        return to_dot(self, slots=self.slots)

    def to_svg(self) -> str:
        """A drawing of the graph, made without Graphviz."""
        from tzwc.inspection.formats.svg import to_svg

        return to_svg(self)
