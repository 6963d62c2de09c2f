"""Passes by name: those of the library, those that installed packages announce, and any as ``module:NAME``.

A package announces its passes in the entry point group ``tzwc.passes``::

    [project.entry-points."tzwc.passes"]
    simplify_relu = "my_package.passes:SIMPLIFY_RELU"
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType

from tzwc.errors import InvalidArgumentError, TzwcError
from tzwc.passes.default_passes import DEFAULT_PASSES
from tzwc.rewrite.pass_manager import Pass
from tzwc.util.argument_checks import exact, examined, shown
from tzwc.util.import_path import load_attribute

__all__ = ["GROUP", "PluginError", "announced", "find_pass", "import_path_of", "load"]

GROUP = "tzwc.passes"


class PluginError(TzwcError):
    """An installed package announces a pass that cannot be used; the message names both."""


def announced() -> dict[str, EntryPoint]:
    """Entry points of installed packages by the name of their pass; nothing is imported.

    Raises:
        PluginError: two packages announce one name, or a name of the library's own.
    """
    own = {p.name for p in DEFAULT_PASSES}
    found: dict[str, EntryPoint] = {}
    for point in entry_points(group=GROUP):
        if point.name in own:
            raise PluginError(f"{_source(point)} announces the pass {point.name!r}, which tzwc has already")
        other = found.setdefault(point.name, point)
        if other.value != point.value:
            raise PluginError(f"the pass {point.name!r} is announced by both {_source(other)} and {_source(point)}")
    return found


def load(point: EntryPoint) -> Pass:
    """The pass behind an entry point.

    Raises:
        PluginError: it cannot be imported, or is no pass, or has another name.
    """
    what = f"pass {point.name!r} of {_source(point)}"
    try:
        made = point.load()
    except Exception as error:  # whatever the package does when it is imported
        raise PluginError(f"{what} cannot be loaded from {point.value!r}: {type(error).__name__}: {error}") from error
    if not isinstance(made, Pass):
        raise PluginError(f"{what}: {point.value!r} is a {type(made).__name__}; expected a tzwc.passes.Pass")
    if made.name != point.name:
        raise PluginError(f"{what}: {point.value!r} has the name {made.name!r}; both names must be the same")
    return made


@examined("name")
def find_pass(name: str) -> Pass:
    """The pass called ``name``: one of the library, one that a package announces, or ``module:NAME``.

    Raises:
        InvalidArgumentError: there is none; the message lists what there is.
        PluginError: a package announces it, and it cannot be used.
    """
    name = exact(name)
    if not isinstance(name, str):
        raise InvalidArgumentError(f"passes: {shown(name)} is a {type(name).__name__}; give the name of a pass")
    for known in DEFAULT_PASSES:
        if known.name == name:
            return known
    if ":" in name:
        return _from_module(name)
    points = announced()
    if name in points:
        return load(points[name])
    names = [*(p.name for p in DEFAULT_PASSES), *points]
    near = difflib.get_close_matches(name, names, n=1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    raise InvalidArgumentError(f"passes: {name!r} is unknown; choose among {', '.join(names)}, or module:NAME{hint}")


def import_path_of(step: Pass, modules: Mapping[str, ModuleType]) -> str | None:
    """``module:NAME`` of a pass that is a global variable somewhere; ``None`` when it is not."""
    for module_name, module in list(modules.items()):
        for name, value in list(vars(module).items()) if isinstance(module, ModuleType) else ():
            if value is step:
                return f"{module_name}:{name}"
    return None


def _from_module(path: str) -> Pass:
    made = load_attribute(path)
    if not isinstance(made, Pass):
        raise InvalidArgumentError(f"passes: {path!r} is a {type(made).__name__}; expected a tzwc.passes.Pass")
    return made


def _source(point: EntryPoint) -> str:
    return f"the package {point.dist.name!r}" if point.dist is not None else "an installed package"
