"""Tries every private name: it exists, is a class or can be called where that is expected, and behaves as expected."""

from __future__ import annotations

import ast
import inspect
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType

import torch
from torch import fx, nn

from tzwc._torch.names import Missing, find, private_names

__all__ = ["faults", "modules", "public_names"]

_OWN = ("__init__", "__main__", "behaviour", "names", "self_test")

_INSIDE_OF_INDUCTOR = Path(__file__).parents[1] / "cross_compile" / "worker"
"""Follows Inductor's classes and replaces parts of PyTorch, in a process of its own. Its imports alone are tried."""

_ATTRIBUTES: dict[str, tuple[Callable[[], object], tuple[str, ...]]] = {
    "a tensor": (lambda: torch.zeros(1), ("_version",)),
    "a storage": (lambda: torch.zeros(1).untyped_storage(), ("_cdata",)),
    "an operator": (lambda: torch.ops.aten.add.Tensor, ("_schema", "_overloadname")),
    "a node": (lambda: fx.Graph().placeholder("x"), ("_erased",)),
    "a module": (
        lambda: nn.Conv1d(1, 1, 1),
        (
            *(
                "_parameters",
                "_buffers",
                "_modules",
                "_non_persistent_buffers_set",
                "_call_impl",
                "_compiled_call_impl",
            ),
            *("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks"),
            "_reversed_padding_repeated_twice",
        ),
    ),
}
"""Private attributes of objects that other modules read, where names cannot stand in for them."""


def modules() -> list[Path]:
    """The files that hold names."""
    return sorted(path for path in Path(__file__).parent.glob("*.py") if path.stem not in _OWN)


def public_names(path: Path) -> dict[str, bool]:
    """The names that a file defines, and whether each is followed by a docstring, or has one."""
    body = ast.parse(path.read_text(encoding="utf-8")).body
    names: dict[str, bool] = {}
    for node, following in zip(body, [*body[1:], None], strict=True):
        documented = isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant)
        if isinstance(node, ast.Assign):
            names |= {target.id: documented for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names[node.target.id] = documented
        elif isinstance(node, ast.FunctionDef):
            names[node.name] = ast.get_docstring(node) is not None
    return {name: documented for name, documented in names.items() if not name.startswith("_")}


def faults() -> list[str]:
    """A line for each name that is missing or changed."""
    found = [fault for path in modules() for fault in _missing(path)]
    found += [
        fault for path in sorted(_INSIDE_OF_INDUCTOR.glob("*.py")) for fault in _missing(path, imports_alone=True)
    ]
    if not found:  # otherwise some cannot be imported
        for path in modules():
            found += _of_another_kind(path)
        found += _behaving_otherwise()
    for what, (make, names) in _ATTRIBUTES.items():
        example = make()
        found += [f"{what} has no {name}" for name in names if not hasattr(example, name)]
    return found


def _missing(path: Path, *, imports_alone: bool = False) -> list[str]:
    source = path.read_text(encoding="utf-8")
    imports = {node.lineno for node in ast.walk(ast.parse(source)) if isinstance(node, (ast.Import, ast.ImportFrom))}
    found = []
    for line, name in private_names(source):
        if imports_alone and line not in imports:
            continue
        try:
            find(name)
        except Missing as error:
            found.append(f"{path.parent.name}/{path.name}:{line}: {error}")
    return found


def _of_another_kind(path: Path) -> Iterator[str]:
    """Names in CamelCase are classes, in capitals constants, all others functions or modules."""
    module = import_module(f"tzwc._torch.{path.stem}")
    for name in public_names(path):
        value = getattr(module, name)
        expected = "a class" if name[0].isupper() else "a function or a module"
        fits = inspect.isclass(value) if name[0].isupper() else callable(value) or isinstance(value, ModuleType)
        if not name.isupper() and not fits:
            yield f"tzwc/_torch/{path.name}: {name} is a {type(value).__name__}, not {expected}"


def _behaving_otherwise() -> Iterator[str]:
    checks: Mapping[str, Sequence[Callable[[], None]]] = import_module("tzwc._torch.behaviour").CHECKS
    for topic, check in [(topic, check) for topic, some in checks.items() for check in some]:
        try:
            check()
        except Exception as error:  # whatever a changed function raises is what is to be told
            last = traceback.extract_tb(error.__traceback__)[-1]
            yield f"tzwc/_torch/{topic}.py: {check.__name__}: {type(error).__name__}: {error} ({last.line})"
