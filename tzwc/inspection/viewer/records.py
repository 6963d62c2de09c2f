"""Every node of every stage as one short record, stored once for all stages that share it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from torch import fx

from tzwc.inspection.formats.call_targets import short_name
from tzwc.inspection.formats.networkx_graph import uses
from tzwc.inspection.text.expressions import Scope
from tzwc.inspection.text.python_source import short_path
from tzwc.inspection.values_and_costs import UNKNOWN_COST
from tzwc.inspection.viewer.modules import ModuleTree
from tzwc.ir import roofline
from tzwc.ir.graph import fake_mode_of, location, nbytes
from tzwc.ir.snapshot import StageRecord
from tzwc.ir.values import describe, value_of

__all__ = ["FIELDS", "Records"]

TEXT = ("name", "op", "target", "call", "value", "slot", "file", "code", "made_by", "binding", "reason")
"""Fields that are numbers of entries in the table of strings."""

FIELDS = (*TEXT, "module", "line", "kept", "flops", "seconds", "bytes", "operands")
"""Order of the fields in a record. ``operands`` are numbers of names in the table of strings."""

_LONGEST_CALL = 400  # characters; a concatenation of a thousand values is told by its operands


@dataclass
class Records:
    """Collects records; equal ones get one number.

    Attributes:
        strings: table of all texts, the empty one first.
        rows: the records, in the order of :data:`FIELDS`.
    """

    slots: Mapping[str, str]
    modules: ModuleTree
    strings: list[str] = field(default_factory=lambda: [""])
    rows: list[list[Any]] = field(default_factory=list)
    _texts: dict[str, int] = field(default_factory=lambda: {"": 0})
    _known: dict[tuple[Any, ...], int] = field(default_factory=dict)
    _costs: dict[tuple[int, ...], tuple[float, float, int]] = field(default_factory=dict)

    def text(self, value: str | None) -> int:
        """The number of ``value`` in the table of strings."""
        text = value or ""
        if text not in self._texts:
            self._texts[text] = len(self.strings)
            self.strings.append(text)
        return self._texts[text]

    def add(self, stage: StageRecord) -> list[int]:
        """The numbers of the records of all nodes of ``stage``, in graph order."""
        scope = Scope()
        with _without_guards(stage.graph):
            return [self._record(node, scope) for node in stage.graph.nodes]

    def name(self, number: int) -> str:
        """The node name in record ``number``."""
        name: str = self.strings[self.rows[number][0]]
        return name

    def operands(self, number: int) -> list[str]:
        """The operand names in record ``number``, in the order of the arguments."""
        return [self.strings[i] for i in self.rows[number][-1]]

    def _record(self, node: fx.Node, scope: Scope) -> int:
        where = location(node)
        call = _call(node, scope)
        texts = (
            node.name,
            node.op,
            short_name(node.target) if node.op.startswith("call") else str(node.target),
            call,
            describe(value_of(node)),
            self.slots.get(node.name),
            None if where.file is None else _short(where.file),
            where.code,
            node.meta.get("tzwc_made_by"),
            node.meta.get("tzwc_binding"),
            node.meta.get("tzwc_binding_reason"),
        )
        operands = tuple(self.text(operand.name) for _, operand in uses(node))
        numbers = tuple(map(self.text, texts))
        key = (
            *numbers,
            self.modules.module_of(node, self.slots),
            where.line,
            int(bool(node.meta.get("tzwc_cached"))),
            operands,
        )
        if key not in self._known:
            self._known[key] = len(self.rows)
            self.rows.append([*key[:-1], *self._cost(node, numbers[:5]), list(operands)])
        return self._known[key]

    def _cost(self, node: fx.Node, call: tuple[int, ...]) -> tuple[float, float, int]:
        """FLOP, seconds and bytes by the cost model; zeros where it knows nothing."""
        if call not in self._costs:
            try:
                self._costs[call] = (round(roofline.flops(node)), float(f"{roofline.seconds(node):.3g}"), nbytes(node))
            except UNKNOWN_COST:
                self._costs[call] = (0, 0.0, 0)
        return self._costs[call]


_short = cache(short_path)


def _without_guards(graph: fx.Graph) -> AbstractContextManager[Any]:
    """Looking must not change what is looked at: a cost asks symbolic sizes for numbers, which would fix the sizes."""
    mode = fake_mode_of(graph)
    return nullcontext() if mode is None or mode.shape_env is None else mode.shape_env.suppress_guards()


def _call(node: fx.Node, scope: Scope) -> str:
    def reference(value: object) -> str:
        return value.name if isinstance(value, fx.Node) else str(value)

    if node.op.startswith("call") and node.op != "call_module":
        text = scope.call(node, reference).one_line()
    elif node.op == "output":
        text = f"return {scope.value(node.args[0], reference)}"
    else:
        text = f"{node.op} {node.target}"
    return text if len(text) <= _LONGEST_CALL else f"{text[:_LONGEST_CALL]}…"
