"""The tree of modules in which the page nests nodes, so that a graph of thousands of nodes opens as a few boxes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePath

from torch import fx

from tzwc.ir.graph import location

__all__ = ["ModuleTree"]

CROWDED = 120
"""A module with more nodes of its own than this is divided further, by source line."""


@dataclass
class ModuleTree:
    """Paths that nest, each with its parent; the root is number 0.

    Attributes:
        paths: dotted paths; below a crowded module also one for each source line.
        parents: the number of the parent of each, ``-1`` for the root.
        labels: the last part of each path.
    """

    paths: list[str] = field(default_factory=lambda: [""])
    parents: list[int] = field(default_factory=lambda: [-1])
    labels: list[str] = field(default_factory=lambda: ["(model)"])
    _numbers: dict[tuple[str, ...], int] = field(default_factory=lambda: {(): 0})
    _crowded: frozenset[str] = frozenset()

    @classmethod
    def of(cls, graphs: Iterable[fx.Graph]) -> ModuleTree:
        """A tree that divides what is crowded in any of ``graphs``, for all of them alike."""
        crowded: set[str] = set()
        for graph in graphs:
            sizes = Counter(location(n).module_path for n in graph.nodes if n.op.startswith("call"))
            crowded.update(path for path, size in sizes.items() if size > CROWDED)
        return cls(_crowded=frozenset(crowded))

    def module_of(self, node: fx.Node, slots: Mapping[str, str]) -> int:
        """The number of the module to show ``node`` in; a parameter's is the module that owns it."""
        if node.op == "placeholder":
            return self._number(tuple(slots.get(node.name, "").split(".")[:-1]))
        if node.op == "output":
            return 0
        where = location(node)
        parts = tuple(where.module_path.split(".")) if where.module_path else ()
        if where.module_path in self._crowded and where.file is not None:
            parts += (f"{PurePath(where.file).name}:{where.line}",)
        return self._number(parts)

    def _number(self, parts: tuple[str, ...]) -> int:
        if parts not in self._numbers:
            parent = self._number(parts[:-1])
            self._numbers[parts] = len(self.paths)
            self.paths.append(".".join(parts))
            self.parents.append(parent)
            self.labels.append(parts[-1])
        return self._numbers[parts]

    def parts(self, number: int) -> tuple[str, ...]:
        """The labels from below the root down to module ``number``."""
        found: list[str] = []
        while number > 0:
            found.append(self.labels[number])
            number = self.parents[number]
        return tuple(reversed(found))

    def to_dict(self) -> dict[str, list[str] | list[int]]:
        """The tree as plain data."""
        return {"paths": self.paths, "parents": self.parents, "labels": self.labels}
