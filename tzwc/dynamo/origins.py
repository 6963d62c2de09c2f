"""Where an operator comes from, in terms of the node of Dynamo's graph that is being run."""

from __future__ import annotations

import re
from typing import Any

from torch import fx

from tzwc.ir.graph import location
from tzwc.tracing import Origins

__all__ = ["NodeOrigins", "dotted"]

_MEMBER = re.compile(r"\._(?:modules|parameters|buffers)\[['\"]([^'\"]+)['\"]\]")
_ROOT = re.compile(r"^[LG]\[['\"]([^'\"]+)['\"]\](?:\.__closure__\[\d+\]\.cell_contents)?\.?")
_KEPT = ("recompute", "ac_graph_id", "custom")  # what lowering reads off a node


def dotted(source: str) -> str:
    """``block.weight`` for Dynamo's ``L['self']._modules['block']._parameters['weight']``, ``x`` for ``L['x']``."""
    root = _ROOT.match(source)
    return _path(source) or (root[1] if root else source)


class NodeOrigins(Origins):
    """Origins as Dynamo noted them.

    Attributes:
        node: what is being run.
        inherited: metadata that it gets beside its own.
    """

    def __init__(self) -> None:
        self.node: fx.Node | None = None
        self.inherited: dict[str, Any] = {}

    def here(self) -> dict[str, Any]:
        """``nn_module_stack`` and ``stack_trace`` of the node."""
        if self.node is None:
            return {"nn_module_stack": {}, "stack_trace": ""}
        stack = (self.node.meta.get("nn_module_stack") or {}).values()
        modules = [(_path(entry[0]), _name(entry[1])) for entry in stack]
        return {
            "nn_module_stack": {path: (path, name) for path, name in modules},
            "stack_trace": self.node.meta.get("stack_trace") or "",
            **{key: self.node.meta[key] for key in _KEPT if key in self.node.meta},
            **self.inherited,
        }

    def line(self) -> str:
        """The user's line, as ``file:line: code``."""
        if self.node is None:
            return "the graph"
        where = location(self.node)
        return f"{where.file}:{where.line}: {where.code}" if where.file else f"node {self.node.name}"


def _path(source: str) -> str:
    path = _MEMBER.sub(r".\1", source)
    return _ROOT.sub("", path).lstrip(".")


def _name(kind: Any) -> str:
    return kind.__qualname__ if isinstance(kind, type) else str(kind).rpartition(".")[2]
