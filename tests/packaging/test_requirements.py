"""Every import of another project is of one that pyproject.toml requires, or that an extra does."""

from __future__ import annotations

import ast
import re
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.packaging.building import ROOT, project

# Some tests and benchmarks have modules beside them that are imported by bare names.
_OWN = {"tzwc", "tests", "setuptools"}


def _name(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _required(*extras: str) -> set[str]:
    stated = project()
    optional = stated["optional-dependencies"]
    assert isinstance(optional, dict)
    lines = list(stated["dependencies"]) if not extras else [line for e in extras for line in optional[e]]  # type: ignore[call-overload]
    names: set[str] = set()
    for line in map(Requirement, lines):
        names |= _required(*line.extras) if line.name == "tzwc" else {_name(line.name)}
    return names


def _imports(folder: str) -> dict[tuple[str, bool], str]:
    """Imported packages, and whether the import is outside of any function; with one place of each."""
    found: dict[tuple[str, bool], str] = {}
    files = sorted((ROOT / folder).rglob("*.py"))
    beside = [*files, *(ROOT / "benchmarks").glob("*.py")]
    local = _OWN | {file.stem for file in beside if folder not in ("tzwc", "passes", "models")}
    for file in files:
        tree = ast.parse(file.read_text(encoding="utf-8"))
        outer = set(tree.body)
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module or ""]
            else:
                continue
            for name in {name.partition(".")[0] for name in names} - local - set(sys.stdlib_module_names):
                found[name, node in outer] = f"{file.relative_to(ROOT)}:{node.lineno}"
    return found


def _undeclared(folder: str, allowed: set[str], *, outer: bool | None = None) -> list[str]:
    provided = packages_distributions()
    return [
        f"{place}: {name}"
        for (name, at_top), place in _imports(folder).items()
        if outer in (None, at_top) and not {_name(d) for d in provided.get(name, [name])} & allowed
    ]


@pytest.mark.parametrize("folder", ["tzwc", "passes", "models"])
def test_what_the_package_imports_is_required_or_in_an_extra_for_users(folder: str) -> None:
    assert not _undeclared(folder, _required(), outer=True)
    assert not _undeclared(folder, _required() | _required("demo", "triton"))


@pytest.mark.parametrize("folder", ["examples", "benchmarks", "tests"])
def test_what_is_beside_the_package_imports_what_its_environment_has(folder: str) -> None:
    assert not _undeclared(folder, _required() | _required("demo", "dev"))


# Whose exceptions decline a rewrite, or let a graph run as it was: what a user's program and a backend may raise.
_CAUGHT = ["tzwc/tracing", "tzwc/partition", "tzwc/rewrite", "passes", "tzwc/lowering", "tzwc/ops", "tzwc/dynamo"]


@pytest.mark.parametrize("folder", _CAUGHT)
def test_a_module_that_was_not_packaged_is_no_reason_to_run_eagerly(folder: str) -> None:
    """Imported at the top of a module, it is missed at once; in a function, what is caught would hide that."""
    found = []
    for file in sorted((ROOT / folder).rglob("*.py")):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        inner = (n for f in ast.walk(tree) if isinstance(f, ast.FunctionDef) for n in ast.walk(f))
        lines = (ast.unparse(node) for node in inner if isinstance(node, ast.Import | ast.ImportFrom))
        found += [f"{file.relative_to(ROOT)}: {line}" for line in lines if re.match(r"(from|import) tzwc\b", line)]
    needs_triton = "tzwc/lowering/gpu/hyperzzw_dot.py: from tzwc.lowering.gpu.hyperzzw_dot_kernel import dot"
    assert not set(found) - {needs_triton}


def test_what_is_pinned_is_in_the_ranges() -> None:
    stated = project()
    optional = stated["optional-dependencies"]
    assert isinstance(optional, dict)
    lines = [*stated["dependencies"], *(line for extra in optional.values() for line in extra)]  # type: ignore[misc]
    requirements = [r for r in map(Requirement, lines) if r.name != "tzwc" and (not r.marker or r.marker.evaluate())]
    ranges = {_name(r.name): r.specifier for r in requirements}
    text = Path(ROOT, "constraints.txt").read_text(encoding="utf-8")
    pinned = dict(line.split("==") for line in text.splitlines() if "==" in line)
    assert not {name for name in ranges if name not in map(_name, pinned)} - {"typing-extensions"}
    assert not {name: v for name, v in pinned.items() if _name(name) in ranges and v not in ranges[_name(name)]}
