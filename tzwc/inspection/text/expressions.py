"""Python expressions for the calls of an fx graph, and what a module must import to evaluate them."""

from __future__ import annotations

import keyword
import operator
import re
from collections.abc import Callable
from typing import Any

import torch
from torch import fx, nn

from tzwc._torch.operators import HigherOrderOperator, OpOverload, OpOverloadPacket
from tzwc.inspection.formats.call_targets import import_path
from tzwc.inspection.text.literals import Reference, literal

__all__ = ["Expression", "Scope", "identifier"]

_INFIX: dict[Callable[..., Any], str] = {
    operator.add: "+",
    operator.sub: "-",
    operator.mul: "*",
    operator.truediv: "/",
    operator.floordiv: "//",
    operator.mod: "%",
    operator.pow: "**",
    operator.eq: "==",
    operator.ne: "!=",
    operator.lt: "<",
    operator.le: "<=",
    operator.gt: ">",
    operator.ge: ">=",
    operator.and_: "&",
    operator.or_: "|",
}
_ATOM = re.compile(r"[\w.]+(\[\w+\])?")


class Expression:
    """``head(piece, piece, …)``, kept in pieces so that a long call can be broken between them."""

    def __init__(self, head: str, pieces: list[str] | None = None) -> None:
        self.head = head
        self.pieces = pieces

    def one_line(self) -> str:
        """The expression on a single line."""
        return self.head if self.pieces is None else f"{self.head}({', '.join(self.pieces)})"

    def wrapped(self, indent: str, width: int) -> list[str]:
        """The expression, which has pieces, over several lines of at most ``width`` characters where they allow it.

        The first line has no indentation of its own, since an assignment stands before it.
        """
        assert self.pieces
        lines, inner = [f"{self.head}("], indent + "    "
        current = inner
        for piece in self.pieces:
            if current != inner and len(current) + len(piece) + 1 > width:
                lines.append(current.rstrip())
                current = inner
            current += f"{piece}, "
        return [*lines, current.rstrip(), f"{indent})"]


class Scope:
    """The module under construction: what it imports, and values that only the caller can supply.

    Attributes:
        imports: modules that the text must import.
        namespaces: operator namespaces used, such as ``aten``.
        externals: values without a textual form, by the global name that stands for them.
        uses_end: whether ``END`` occurs.
    """

    def __init__(self) -> None:
        self.imports: set[str] = {"torch"}
        self.namespaces: set[str] = set()
        self.externals: dict[str, object] = {}
        self.taken: set[str] = {"torch", "math", "operator", "END", "aten", "prims", "tzwc", "forward"}

    def unique(self, wanted: str) -> str:
        """A global name like ``wanted`` that nothing else uses."""
        name = identifier(wanted)
        while name in self.taken:
            name += "_"
        self.taken.add(name)
        return name

    def external(self, wanted: str, value: object) -> str:
        """The global name for a value that the text cannot hold."""
        for name, known in self.externals.items():
            if known is value:
                return name
        name = self.unique(wanted)
        self.externals[name] = value
        return name

    def value(self, value: object, reference: Reference) -> str:
        """Text of an argument; what has no textual form becomes an external value."""
        try:
            text = literal(value, reference)
        except TypeError:
            return self.external(f"value_{type(value).__name__}", value)
        if "math." in text:
            self.imports.add("math")
        return text

    def call(self, node: fx.Node, reference: Reference) -> Expression:
        """The call that ``node`` makes."""
        target, args = node.target, node.args
        if node.op == "call_method":
            return Expression(
                f"{self.value(args[0], reference)}.{target}", self.pieces(args[1:], node.kwargs, reference)
            )
        assert callable(target)
        if target is torch.ops.aten.sym_size.int and isinstance(args[0], fx.Node):
            return Expression(f"{reference(args[0])}.shape[{self.value(args[1], reference)}]")
        if target is operator.getitem:
            return Expression(f"{self._operand(args[0], reference)}[{self.value(args[1], reference)}]")
        if target in _INFIX and len(args) == 2:
            left, right = (self._operand(argument, reference) for argument in args)
            return Expression(f"{left} {_INFIX[target]} {right}")
        return Expression(self.function(target), self.pieces(args, node.kwargs, reference))

    def claim(self, node: fx.Node, root: nn.Module | None) -> None:
        """Take the names that the call ``node`` needs, so that no variable hides them."""
        if node.op == "call_module":
            self.module(node, root)
        elif node.op == "call_function" and node.target is not operator.getitem and node.target not in _INFIX:
            assert callable(node.target)
            self.function(node.target)

    def module(self, node: fx.Node, root: nn.Module | None) -> str:
        """The global name for what the ``call_module`` node ``node`` calls, which text cannot hold."""
        target = str(node.target)
        return self.external(target, target if root is None else root.get_submodule(target))

    def result(self, value: object, reference: Reference) -> Expression:
        """What the graph returns; a long tuple can be wrapped between its items."""
        if isinstance(value, tuple) and len(value) > 1:
            return Expression("", [self.value(item, reference) for item in value])
        return Expression(self.value(value, reference))

    def function(self, target: Callable[..., Any]) -> str:
        """The expression that names ``target``."""
        if isinstance(target, (OpOverload, OpOverloadPacket)):
            name = str(target).replace("::", ".")
            namespace = name.partition(".")[0]
            if namespace in ("aten", "prims"):
                self.namespaces.add(namespace)
                return name
            if namespace == "tzwc":
                self.imports.add("tzwc.ops")  # registers the operators
            return f"torch.ops.{name}"
        if isinstance(target, HigherOrderOperator):
            return f"torch.ops.higher_order.{target.__name__}"
        path = import_path(target)
        if path is None:
            return self.external(getattr(target, "__name__", "function"), target)
        module, name = path
        if module == "builtins":
            return name
        self.imports.add(module)
        self.taken.add(module.partition(".")[0])
        return f"{module}.{name}"

    def pieces(self, args: tuple[Any, ...], kwargs: dict[str, Any], reference: Reference) -> list[str]:
        """The arguments of a call, each as text; a long list in several pieces."""
        pieces: list[str] = []
        for prefix, value in [("", argument) for argument in args] + [(f"{k}=", v) for k, v in kwargs.items()]:
            if isinstance(value, list) and len(value) > 4:  # a long list may be broken between its items as well
                items = [self.value(item, reference) for item in value]
                pieces += [f"{prefix}[{items[0]}", *items[1:-1], f"{items[-1]}]"]
            else:
                pieces.append(prefix + self.value(value, reference))
        return pieces

    def _operand(self, value: object, reference: Reference) -> str:
        text = self.value(value, reference)
        return text if (_ATOM.fullmatch(text) and not text[0].isdigit()) or text.isdigit() else f"({text})"


def identifier(text: str) -> str:
    """``text`` as a Python identifier that is not a keyword."""
    name = re.sub(r"\W", "_", text)
    if not name or name[0].isdigit() or keyword.iskeyword(name):
        name = f"_{name}"
    return name
