"""``TZWC_DUMP=folder``: every graph is written there when it is made, without a change to the program."""

from __future__ import annotations

import itertools
import os
from pathlib import Path
from typing import TYPE_CHECKING

from tzwc.errors import InvalidArgumentError
from tzwc.ir.logs import passes_log

if TYPE_CHECKING:
    from tzwc.runtime.compiled_module import CompiledModule

__all__ = ["VARIABLE", "dump_as_asked"]

VARIABLE = "TZWC_DUMP"

_numbers = itertools.count()


def dump_as_asked(compiled: CompiledModule) -> None:
    """Dump ``compiled`` into a folder of its own where the variable is set; called when a graph was made."""
    top = os.environ.get(VARIABLE)
    if not top or not compiled.specialisations:
        return
    home = compiled.__dict__.get("_dump_folder")
    if home is None:  # several processes may share the variable, and several models a class
        home = Path(top) / f"{type(compiled.original).__name__}-{os.getpid()}-{next(_numbers)}"
        compiled.__dict__["_dump_folder"] = home
    try:
        compiled.dump(home)
    except InvalidArgumentError as error:  # the model's answer matters more
        passes_log.warning("%s=%r: %s", VARIABLE, top, error)
