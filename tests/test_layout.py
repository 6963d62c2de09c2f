"""Imports run downward from floor to floor, none in a circle; tests mirror the folders and do not import each other."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import networkx as nx
import pytest

ROOT = Path(__file__).parents[1]
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def _floors() -> list[list[str]]:
    """The order of floors as CONTRIBUTING gives it, the highest first."""
    block = re.search(r"```text\n(.*?)```", CONTRIBUTING, re.DOTALL)
    assert block is not None
    return [re.findall(r"[\w]+", line.partition("  ")[0]) for line in block[1].splitlines()]


FLOORS = _floors()
LEVEL = {name: level for level, names in enumerate(FLOORS) for name in names}


def _modules() -> dict[str, Path]:
    """Every module of the package, by dotted name."""
    paths = [*(ROOT / "tzwc").rglob("*.py"), *(ROOT / "passes").rglob("*.py"), *(ROOT / "models").rglob("*.py")]
    found = {}
    for path in paths:
        parts = path.relative_to(ROOT).with_suffix("").parts
        if parts[:2] in (("tzwc", "passes"), ("tzwc", "models")):  # links to the folders beside it
            continue
        parts = parts if parts[0] == "tzwc" else ("tzwc", *parts)
        found[".".join(parts).removesuffix(".__init__")] = path
    return found


MODULES = _modules()


def _imports(name: str) -> Iterator[str]:
    """The modules of the package that a module imports: at the top, in functions, and for type checkers alike."""
    for node in ast.walk(ast.parse(MODULES[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.partition(".")[0] == "tzwc")
        elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "tzwc":
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                # A function may have the name of a folder: what is imported from a package that defines it is that.
                yield inner if inner in MODULES and not _defines(str(node.module), alias.name) else str(node.module)


def _defines(package: str, name: str) -> bool:
    tree = ast.parse(MODULES[package].read_text(encoding="utf-8")) if package in MODULES else ast.parse("")
    return any(
        isinstance(node, ast.ImportFrom) and any((a.asname or a.name) == name for a in node.names) for node in tree.body
    )


def _place(module: str) -> str:
    return module.split(".")[1] if "." in module else "tzwc"


GRAPH = nx.DiGraph([(name, other) for name in MODULES for other in _imports(name) if other != name])


def test_every_folder_has_a_floor() -> None:
    assert {_place(name) for name in MODULES} - {"tzwc"} == set(LEVEL)


def test_no_import_runs_upward() -> None:
    upward = [
        f"{a} imports {b}"
        for a, b in GRAPH.edges
        if _place(a) != "tzwc" and (_place(b) == "tzwc" or LEVEL[_place(b)] < LEVEL[_place(a)])
    ]
    assert not upward


def test_no_imports_in_a_circle() -> None:
    assert not [sorted(group) for group in nx.strongly_connected_components(GRAPH) if len(group) > 1]


def test_tests_mirror_the_folders() -> None:
    folders = {path.name for path in (ROOT / "tests").iterdir() if path.is_dir() and any(path.glob("*.py"))}
    others = {"benchmarks", "docs", "faults", "idioms", "packaging", "properties", "robustness", "support"}
    assert folders - others <= set(LEVEL)


@pytest.mark.parametrize("path", sorted((ROOT / "tests").rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_no_test_imports_another(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            files = [ROOT.joinpath(*name.split(".")).with_suffix(".py") for name in names if name.startswith("tests.")]
            assert not [file for file in files if file.name.startswith("test_") and file.exists()]


# Each is one class around one state, and is still to be taken apart.
LONG = {"tzwc/tracing/capture.py", "tzwc/tracing/tracer.py"}


def test_files_are_short() -> None:
    long = {
        str(path.relative_to(ROOT)): lines
        for path in [*MODULES.values(), *(ROOT / "tests").rglob("*.py")]
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > 300
    }
    assert long.keys() == LONG
