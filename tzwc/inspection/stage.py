"""A stage in all its forms: Python, JSON, networkx, GraphML, DOT, SVG."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from tzwc.errors import InvalidArgumentError
from tzwc.inspection.formats.dot import to_dot
from tzwc.inspection.formats.json_graph import graph_from_dict, graph_to_dict
from tzwc.inspection.formats.networkx_graph import to_graphml, to_networkx
from tzwc.inspection.formats.svg import to_svg
from tzwc.inspection.report.report import json_safe
from tzwc.inspection.text.python_source import to_python
from tzwc.ir.remarks import Location, Remark
from tzwc.ir.snapshot import StageRecord
from tzwc.util.argument_checks import exact, examined, shown

if TYPE_CHECKING:
    import networkx as nx

__all__ = ["Stage", "stage_from_dict", "stage_to_dict"]


@dataclass(frozen=True)
class Stage(StageRecord):
    """The graph after one pass, and its forms. The attributes are those of :class:`tzwc.ir.snapshot.StageRecord`."""

    @classmethod
    def of(cls, record: StageRecord) -> Stage:
        """``record``, with forms."""
        return cls(record.name, record.source, record.remarks, record.seconds, record.root, record.slots)

    def to_python(self) -> str:
        """The graph as Python text: a module with ``forward``, and a script that runs it on random arguments."""
        return to_python(self, script=True)

    def to_dict(self) -> dict[str, Any]:
        """The stage as JSON-safe data; :meth:`from_dict` reads it.

        Raises:
            InvalidArgumentError: an argument of a node has no such form.
        """
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
        return to_networkx(self)

    def to_graphml(self) -> str:
        """The data flow as GraphML, which yEd, Gephi and Cytoscape read."""
        return to_graphml(self)

    def to_dot(self) -> str:
        """The graph in the DOT language of Graphviz."""
        return to_dot(self, slots=self.slots)

    def to_svg(self) -> str:
        """A drawing of the graph, made without Graphviz."""
        return to_svg(self)


def stage_to_dict(stage: StageRecord, root: nn.Module | None = None) -> dict[str, Any]:
    """A stage as JSON-safe data; arguments and errors as for :func:`tzwc.inspection.graph_to_dict`.

    Args:
        stage: what to write.
        root: holds what ``get_attr`` nodes refer to; by default the stage's own.
    """
    return {
        "name": stage.name,
        "seconds": stage.seconds,
        "remarks": json_safe(stage.remarks),
        "slots": dict(stage.slots),
        "graph": graph_to_dict(stage.graph, root if root is not None else stage.root),
    }


@examined("data")
def stage_from_dict(
    data: Mapping[str, Any],
    *,
    constants: Mapping[str, Tensor] | None = None,
    targets: Mapping[str, Callable[..., Any]] | None = None,
) -> Stage:
    """The stage that :func:`stage_to_dict` wrote; as :func:`tzwc.inspection.graph_from_dict`."""
    try:
        remarks = tuple(_remark_from_dict(item) for item in data["remarks"])
        name, seconds, graph = str(data["name"]), float(data["seconds"]), data["graph"]
        slots = {str(placeholder): str(path) for placeholder, path in dict(data.get("slots") or {}).items()}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InvalidArgumentError(
            f"stage data cannot be read ({type(error).__name__}: {error}): expected what stage_to_dict writes"
        ) from error
    read = graph_from_dict(graph, constants=constants, targets=targets)
    return Stage(name, read, remarks, seconds, read.owning_module, slots)


def _remark_from_dict(data: Mapping[str, Any]) -> Remark:
    fields = {**data, "nodes": tuple(data["nodes"]), "location": Location(**data["location"])}
    return Remark(**fields)
