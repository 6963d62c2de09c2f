"""A graph as Python that reads well and runs by itself.

Each line is one node. Lines are grouped by the module and the source line that they came from, and end with what they
compute and which pass made them::

    # blocks.0: model.py:34 | y = self.conv(x)
    conv1d = aten.conv1d.default(x, p_weight, None, [1], "same")  # f32[s0, 64, 784]
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import fx, nn

from tzwc._torch.fake_tensors import FakeTensor
from tzwc.inspection.text.expressions import Expression, Scope, identifier
from tzwc.inspection.text.literals import Reference
from tzwc.inspection.text.script import script_lines
from tzwc.ir.graph import location
from tzwc.ir.remarks import Location
from tzwc.ir.snapshot import StageRecord
from tzwc.ir.values import describe, value_of

__all__ = ["PythonText", "origin", "render_python", "to_python"]

_WIDTH = 120
_INLINE_ELEMENTS = 64


@dataclass(frozen=True)
class PythonText:
    """Python source text and what it cannot hold.

    Attributes:
        text: the source; it defines ``forward``, which takes the placeholders in their order.
        externals: values by the global name under which the source expects them (large constants, functions that
            cannot be imported). Empty for most graphs: then the text runs by itself.
    """

    text: str
    externals: Mapping[str, object]


def to_python(
    stage: StageRecord | fx.Graph,
    *,
    root: nn.Module | None = None,
    slots: Mapping[str, str] | None = None,
    script: bool = False,
) -> str:
    """The graph as Python source text; see :func:`render_python` for the arguments."""
    return render_python(stage, root=root, slots=slots, script=script).text


def render_python(
    stage: StageRecord | fx.Graph,
    *,
    root: nn.Module | None = None,
    slots: Mapping[str, str] | None = None,
    script: bool = False,
) -> PythonText:
    """The graph as Python source text, with the values that text cannot hold.

    Args:
        stage: a stage of the pipeline, or any graph.
        root: holds what ``get_attr`` nodes refer to; by default the stage's own, or the module that owns the graph.
        slots: dotted parameter or buffer name by placeholder name, shown beside the placeholder.
        script: end with lines that call ``forward`` on random arguments when the text is run as a program.
    """
    graph = stage.graph if isinstance(stage, StageRecord) else stage
    if isinstance(stage, StageRecord):
        root, slots = root if root is not None else stage.root, slots if slots is not None else stage.slots
    scope = Scope()
    writer = _Writer(scope, slots or {})
    body = writer.function("forward", graph, root if root is not None else graph.owning_module)
    title = stage.name if isinstance(stage, StageRecord) else "graph"
    calls = sum(node.op.startswith("call") for node in graph.nodes)
    lines = [f'"""{_comment(title)}: {calls} operations. Written by tzwc; runs by itself.', "", *_LEGEND, '"""', ""]
    lines += [f"import {module}" for module in sorted(scope.imports)]
    lines += ["", *(f"{name} = torch.ops.{name}" for name in sorted(scope.namespaces))]
    if "END" in "".join(body + writer.before):
        lines.append("END = 2**63 - 1  # in a slice: to the end")
    lines += [*writer.constants]
    if scope.externals:
        lines += ["", "# This text cannot hold the following values: set them before calling forward."]
        lines += [f"{name} = None  # {_comment(type(value).__name__)}" for name, value in scope.externals.items()]
    tail = script_lines(graph) if script else []
    text = "\n".join([*lines, *writer.before, "", "", *body, *tail]) + "\n"
    return PythonText(text, dict(scope.externals))


_LEGEND = [
    "A comment on its own line gives the module and the source line that the operations below it came from. A trailing",
    "comment gives dtype and shape; static, where the value does not depend on the inputs; kept, where it is stored",
    "between calls; and the pass that made the operation.",
]


class _Writer:
    """Writes the functions of one text; submodules of higher-order operators become functions before ``forward``."""

    def __init__(self, scope: Scope, slots: Mapping[str, str]) -> None:
        self.scope = scope
        self.slots = slots
        self.constants: list[str] = []
        self.before: list[str] = []

    def function(self, name: str, graph: fx.Graph, root: nn.Module | None) -> list[str]:
        for node in graph.nodes:
            self.scope.claim(node, root)
        names: dict[fx.Node, str] = {}
        for node in graph.nodes:
            if node.op == "get_attr":
                names[node] = self._attribute(node, root)
        local: set[str] = set()
        for node in graph.nodes:
            if node.op not in ("get_attr", "output"):
                names[node] = _fresh(identifier(node.name), self.scope.taken | local)
                local.add(names[node])
        symbols = _Symbols(graph, names)
        reference: Reference = lambda value: names[value] if isinstance(value, fx.Node) else symbols.expression(value)  # noqa: E731
        body = self._body(graph, names, reference, root)
        return [*self._signature(name, graph, names, reference), *symbols.definitions(), *body]

    def _signature(self, name: str, graph: fx.Graph, names: dict[fx.Node, str], reference: Reference) -> list[str]:
        lines = [f"def {name}("]
        for node in graph.nodes:
            if node.op == "placeholder":
                star = str(node.target)[: len(str(node.target)) - len(str(node.target).lstrip("*"))]
                default = f"={self.scope.value(node.args[0], reference)}" if node.args else ""
                slot = f"slot {self.slots[node.name]}" if node.name in self.slots else ""
                lines.append(f"    {star}{names[node]}{default},{_trailing(node, slot)}")
        return [f"def {name}():"] if len(lines) == 1 else [*lines, "):"]

    def _body(
        self, graph: fx.Graph, names: dict[fx.Node, str], reference: Reference, root: nn.Module | None
    ) -> list[str]:
        lines: list[str] = []
        previous: Location | None = None
        for node in graph.nodes:
            if node.op == "output":
                lines += ["", *_statement("return ", self.scope.result(node.args[0], reference), "")]
            if not node.op.startswith("call"):
                continue
            where = location(node)
            if where != previous:
                lines += _header(where, previous)
                previous = where
            if node.op == "call_module":
                arguments = self.scope.pieces(node.args, node.kwargs, reference)
                expression = Expression(self.scope.module(node, root), arguments)
            else:
                expression = self.scope.call(node, reference)
            assigned = f"{names[node]} = " if node.users else ""
            lines += _statement(assigned, expression, _trailing(node))
        return lines

    def _attribute(self, node: fx.Node, root: nn.Module | None) -> str:
        """The global name for what a ``get_attr`` node reads."""
        value: Any = root
        for part in str(node.target).split("."):
            value = getattr(value, part, None)
        if isinstance(value, fx.GraphModule):
            name = self.scope.unique(node.name)
            self.before += ["", "", *self.function(name, value.graph, value)]
            return name
        if isinstance(value, torch.Tensor) and _fits(value):
            name = self.scope.unique(node.name)
            data = self.scope.value(value.detach().cpu().tolist(), str)
            device = "" if value.device.type == "cpu" else f", device={str(value.device)!r}"
            self.constants.append(f"{name} = torch.tensor({data}, dtype={value.dtype}{device})")
            return name
        if value is None or isinstance(value, (torch.Tensor, nn.Module)):
            # Not shared with others: two missing values must not become one.
            name = self.scope.unique(node.name)
            self.scope.externals[name] = value
            return name
        return self.scope.value(value, str)


class _Symbols:
    """Symbolic numbers written straight into arguments: their symbols are read off the placeholders' shapes."""

    def __init__(self, graph: fx.Graph, names: dict[fx.Node, str]) -> None:
        self.sources: dict[str, str] = {}
        self.used: set[str] = set()
        for node in graph.nodes:
            if node.op != "placeholder":
                continue
            value = node.meta.get("val")
            if isinstance(value, torch.SymInt):
                self.sources.setdefault(str(value), names[node])
            sizes: tuple[object, ...] = tuple(value.shape) if isinstance(value, torch.Tensor) else ()
            for axis, size in enumerate(sizes):
                if isinstance(size, torch.SymInt) and size.node.expr.is_symbol:
                    self.sources.setdefault(str(size), f"{names[node]}.shape[{axis}]")

    def expression(self, value: torch.SymInt | torch.SymFloat | torch.SymBool) -> str:
        from tzwc._torch.symbolic_shapes import PythonPrinter  # loads SymPy, and is hardly ever needed

        expr = value.node.expr
        self.used |= {str(symbol) for symbol in expr.free_symbols}
        return f"({PythonPrinter().doprint(expr)})"

    def definitions(self) -> list[str]:
        return [f"    {name} = {self.sources[name]}" for name in sorted(self.used & set(self.sources))]


def _fits(value: torch.Tensor) -> bool:
    plain = value.layout == torch.strided and not isinstance(value, FakeTensor) and not value.is_quantized
    return plain and value.device.type != "meta" and value.numel() <= _INLINE_ELEMENTS


def _fresh(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "_"
    return name


def _trailing(node: fx.Node, *more: str) -> str:
    made_by = node.meta.get("tzwc_made_by")
    facts = [
        describe(value_of(node)),
        "static" if node.meta.get("tzwc_binding") == "static" else "",
        "kept" if node.meta.get("tzwc_cached") else "",
        *more,
        f"by {made_by}" if made_by else "",
    ]
    text = _comment(", ".join(fact for fact in facts if fact))
    return f"  # {text}" if text else ""


def _header(where: Location, previous: Location | None) -> list[str]:
    """The comment above a group of nodes."""
    if previous is not None and (where.file, where.line) == (previous.file, previous.line) and where.file is not None:
        return [f"    # in {_comment(where.module_path or '(root)')}"]  # another module called from the same line
    moved = previous is not None and where.module_path != previous.module_path
    return [*([""] if moved else []), f"    # {origin(where)}"]


def _statement(assigned: str, expression: Expression, comment: str) -> list[str]:
    line = f"    {assigned}{expression.one_line()}"
    if len(line) + len(comment) <= _WIDTH or not expression.pieces:
        return [line + comment]
    lines = expression.wrapped("    ", _WIDTH)
    return [f"    {assigned}{lines[0]}", *lines[1:-1], lines[-1] + comment]


def origin(where: Location) -> str:
    """Module path, file, line and code of a location on one line: ``blocks.0: model.py:34 | y = self.conv(x)``."""
    text = where.module_path or "(root)"
    if where.file is not None:
        text += f": {short_path(where.file)}:{where.line}"
    if where.code:
        text += f" | {where.code}"
    return _comment(text)


def short_path(file: str) -> str:
    """``file`` relative to the working directory or to ``site-packages`` when it lies there."""
    path = Path(file)
    if "site-packages" in path.parts:
        return "/".join(path.parts[path.parts.index("site-packages") + 1 :])
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return file


def _comment(text: str) -> str:
    """``text`` without line breaks and quotes that could end a comment or a docstring: origins come from files."""
    return " ".join(text.split()).replace('"""', "'''").replace("\\", "/")
