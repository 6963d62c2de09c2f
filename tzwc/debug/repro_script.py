"""The script that shows again what a bisect found."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from tzwc.rewrite.pass_manager import Pass, Rewrite

__all__ = ["script"]


def script(
    passes: Sequence[Pass],
    needed: Sequence[Rewrite],
    tolerance: float,
    backend: object,
    kind: str,
    detail: str,
    setup: str,
) -> str:
    """Python text that runs ``passes``, the last one with the rewrites ``needed`` only, and exits with 1.

    Args:
        setup: defines ``model`` and ``inputs``; a line to be filled in stands for it when it is empty.
    """
    given = setup or "from my_program import inputs, model  # what tzwc.bisect was given"
    names = [_reference(step) for step in passes]
    only = {passes[-1].name: list(map(str, needed))} if needed else None
    shown = repr(backend) if isinstance(backend, str) else "my_backend  # what tzwc.bisect was given"
    headline = " ".join(f"{passes[-1].name}: {kind}: {detail}".split()).replace('"', "'").replace("\\", "/")
    return "\n".join(
        [
            f'"""{headline}"""',
            "",
            "import sys",
            "",
            "import tzwc",
            "",
            given.strip(),
            "",
            "found = tzwc.verify(",
            "    model,",
            "    inputs,",
            f"    passes={names!r},",
            f"    only={only!r},",
            f"    tolerance={tolerance!r},",
            f"    backend={shown},",
            ")",
            "print(found)",
            "sys.exit(0 if found.ok else 1)",
            "",
        ]
    )


def _reference(step: Pass) -> str:
    """A name that ``passes=`` understands."""
    from tzwc.passes.registry import find_pass, import_path_of

    try:
        if find_pass(step.name) is step:
            return step.name
    except Exception:  # not registered, or its package is broken: name it by where it is
        pass
    return import_path_of(step, sys.modules) or step.name
