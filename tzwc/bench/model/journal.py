"""What ``tzwc bench model`` has found out so far, in a file."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from tzwc.errors import InvalidArgumentError

__all__ = ["Journal"]


class Journal:
    """Appends lines of JSON, each at once, so that what was measured outlives an interruption.

    Args:
        path: of the file; ``None`` writes nothing.

    Raises:
        InvalidArgumentError: it cannot be written.
    """

    def __init__(self, path: Path | None) -> None:
        try:
            self._file = None if path is None else path.open("a", encoding="utf-8", buffering=1)
        except OSError as error:
            raise InvalidArgumentError(f"--out {str(path)!r} cannot be written: {error.strerror}") from error

    def write(self, event: str, entry: Mapping[str, Any]) -> None:
        """Add a line."""
        if self._file is not None:
            self._file.write(json.dumps(_finite({"event": event, **entry})) + "\n")

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()


def _finite(value: Any) -> Any:
    """``value`` with null for what JSON has no numbers for."""
    if isinstance(value, Mapping):
        return {key: _finite(inner) for key, inner in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
