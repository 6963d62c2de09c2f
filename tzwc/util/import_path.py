"""Objects by import path, ``module:attribute``."""

from __future__ import annotations

import difflib
import importlib
import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

from tzwc.errors import InvalidArgumentError, TzwcError
from tzwc.util.argument_checks import shown

__all__ = ["load_attribute", "near_miss"]


def load_attribute(target: str) -> object:
    """What ``module:attribute`` names; the module is looked for in the working directory too.

    Raises:
        InvalidArgumentError: nothing of that name.
        TzwcError: the module raised an exception.
    """
    module_name, _, attribute = target.partition(":")
    if not attribute or not module_name:
        raise InvalidArgumentError(f"{target!r}: expected module:factory, such as mypackage.models:make_model")
    made: object = _import(module_name)
    for name in attribute.split("."):
        try:
            made = getattr(made, name)
        except AttributeError as error:
            near = near_miss(name, dir(made))
            raise InvalidArgumentError(f"{module_name!r} has no attribute {attribute!r}{near}") from error
    return made


def _import(name: str) -> ModuleType:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if name != missing and not name.startswith(missing + "."):
            raise TzwcError(f"module {name!r} needs {missing!r}, which is not installed") from error
        if name.endswith(".py") or "/" in name:
            hint = " (give a module, not a file: package.module)"
        else:
            hint = near_miss(name, [path.stem for path in Path.cwd().glob("*.py")])
        raise InvalidArgumentError(f"there is no module {missing!r} here or among installed packages{hint}") from error
    except Exception as error:
        raise TzwcError(f"importing {name!r} failed ({type(error).__name__}: {error})") from error


def near_miss(name: str, choices: Iterable[str]) -> str:
    """A clause for an error: which of ``choices`` may have been meant; empty when none is close."""
    near = difflib.get_close_matches(name if isinstance(name, str) else shown(name), list(choices), n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""
