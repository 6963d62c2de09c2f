"""Which private names of PyTorch a source file uses, by its syntax alone."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from importlib import import_module
from typing import Any

__all__ = ["Missing", "find", "private_names"]

_ROOTS = ("torch", "functorch")
_OPERATORS = "torch.ops."  # operators are public under any name


class Missing(LookupError):
    """A name does not exist in this PyTorch."""


def find(name: str) -> Any:
    """What ``name`` stands for, with all its modules, which are imported.

    Raises:
        Missing: there is no such name.
    """
    root, *rest = name.split(".")
    found, path = import_module(root), root
    for part in rest:
        path = f"{path}.{part}"
        try:
            found = getattr(found, part)
        except AttributeError:
            try:
                found = import_module(path)
            except ImportError as error:
                raise Missing(f"{name}: there is no {path}") from error
    return found


def private_names(source: str) -> list[tuple[int, str]]:
    """Line and full name of every private name of PyTorch in ``source``, in order.

    They are found in imports, in attributes of modules and classes that are imported, and where ``getattr``, ``vars``
    and ``import_module`` have a constant name. Attributes of objects, such as ``tensor._version``, are not.
    """
    tree = ast.parse(source)
    names = _imported(tree)
    found = {
        (getattr(node, "lineno", 0), name)
        for node in ast.walk(tree)
        for name in _mentioned(node, names)
        if _is_private(name)
    }
    longest = {
        (line, name) for line, name in found if not any(line == at and o.startswith(f"{name}.") for at, o in found)
    }
    return sorted(longest)


def _is_private(name: str) -> bool:
    root, *parts = name.split(".")
    private = any(part.startswith("_") and not part.startswith("__") for part in parts)
    return root in _ROOTS and private and not name.startswith(_OPERATORS)


def _imported(tree: ast.AST) -> dict[str, str]:
    """The full names behind the names that imports bind anywhere in a file."""
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                root = alias.name.partition(".")[0]
                names[alias.asname or root] = alias.name if alias.asname else root
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return names


def _mentioned(node: ast.AST, names: dict[str, str]) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and not node.level:
        yield from (f"{node.module}.{alias.name}" for alias in node.names)
    elif isinstance(node, ast.Attribute):
        yield from _full(node, names)
    elif isinstance(node, ast.Subscript) and isinstance(node.value, ast.Call):  # vars(owner)["name"]
        called, key = node.value, node.slice
        if isinstance(called.func, ast.Name) and called.func.id == "vars" and called.args and _text(key):
            yield from (f"{owner}.{_text(key)}" for owner in _full(called.args[0], names))
    elif isinstance(node, ast.Call) and node.args:
        function = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", None)
        if function in ("import_module", "__import__") and _text(node.args[0]):
            yield str(_text(node.args[0]))
        elif function in ("getattr", "setattr", "hasattr") and len(node.args) > 1 and _text(node.args[1]):
            yield from (f"{owner}.{_text(node.args[1])}" for owner in _full(node.args[0], names))


def _full(node: ast.AST, names: dict[str, str]) -> Iterator[str]:
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if isinstance(node, ast.Name) and node.id in names:
        yield ".".join([names[node.id], *reversed(parts)])


def _text(node: ast.AST) -> str | None:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None
