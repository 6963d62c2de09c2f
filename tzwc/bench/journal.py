"""Lines of JSON, each written when it is known, so that an interrupted measurement goes on where it was."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tzwc.errors import InvalidArgumentError
from tzwc.util.paths import why_not

__all__ = ["Journal"]


class Journal:
    """What was measured, in a file that is added to at once and read by the next run.

    Args:
        path: the file; ``None`` keeps nothing.
        identity: what lines must agree in to be of use; JSON-safe.

    Raises:
        InvalidArgumentError: the file cannot be written; said now, rather than when the first result is there.
    """

    def __init__(self, path: Path | None, identity: dict[str, Any]) -> None:
        self.path = path
        self.identity = json.loads(json.dumps(identity))
        self.known: dict[tuple[str, int], dict[str, Any]] = {}
        if path is None:
            return
        try:
            with path.open("a+", encoding="utf-8", errors="replace") as file:
                file.seek(0)
                text = file.read()
                if text and not text.endswith("\n"):  # an interrupted write must not spoil the next line
                    file.write("\n")
        except (OSError, ValueError) as error:  # of a name with what no name may hold
            raise InvalidArgumentError(f"--out {str(path)!r} cannot be written: {why_not(error)}") from error
        for line in text.splitlines():
            self._read(line)

    def once(self, kind: str, number: int, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """What the file has, or else what is measured now."""
        if (kind, number) in self.known:
            return self.known[kind, number]
        found = measure()
        if self.path is not None:
            line = {"kind": kind, "number": number, "of": self.identity, "found": found}
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        return found

    def _read(self, line: str) -> None:
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):  # an interrupted write, or no file of ours
            return
        if isinstance(row, dict) and row.get("of") == self.identity:
            kind, number, found = (row.get(name) for name in ("kind", "number", "found"))
            if isinstance(kind, str) and isinstance(number, int) and isinstance(found, dict):
                self.known[kind, number] = found
