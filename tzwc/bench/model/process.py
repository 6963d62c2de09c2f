"""A child process that answers requests, as the one who asks sees it."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from tzwc.errors import TzwcError

__all__ = ["Process", "ProcessError"]


class ProcessError(TzwcError):
    """A process did not answer, or answered that it failed."""


class Process:
    """A process that takes a line of JSON on standard input and answers with one on standard output.

    Args:
        command: program and arguments.
        environment: variables that it gets besides those of this process.
        log: file for its standard error.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        self._log = log
        self._unread = b""
        with log.open("wb") as errors:
            # A session of its own: an interrupt from the keyboard comes to us alone, and we end whatever it started.
            self._child = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env={**os.environ, **environment},
                start_new_session=True,
            )

    def ask(self, request: Mapping[str, Any], limit: float) -> dict[str, Any]:
        """Send a request and wait for the answer.

        Args:
            request: JSON-safe.
            limit: seconds to wait at most; the process is ended then.

        Raises:
            ProcessError: it has ended, took too long, or answered with ``{"error": …}``.
        """
        assert self._child.stdin is not None
        with suppress(BrokenPipeError):  # reading says why
            self._child.stdin.write(json.dumps(request).encode() + b"\n")
            self._child.stdin.flush()
        reply: dict[str, Any] = json.loads(self._line(limit))
        if "error" in reply:
            raise ProcessError(reply["error"])
        return reply

    def end(self) -> None:
        """End it and all that it has started, at once; any number of times."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._child.pid, signal.SIGKILL)
        self._child.wait()
        for pipe in (self._child.stdin, self._child.stdout):
            assert pipe is not None
            with suppress(BrokenPipeError):
                pipe.close()

    def _line(self, limit: float) -> bytes:
        assert self._child.stdout is not None
        reading, end = self._child.stdout.fileno(), time.monotonic() + limit
        while b"\n" not in self._unread:
            ready, _, _ = select.select([reading], [], [], max(0.0, end - time.monotonic()))
            if not ready:
                self.end()
                raise ProcessError(f"no answer within {limit:g} s")
            piece = os.read(reading, 1 << 16)
            if not piece:
                raise ProcessError(self._why())
            self._unread += piece
        line, _, self._unread = self._unread.partition(b"\n")
        return line

    def _why(self) -> str:
        code = self._child.wait()
        said = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        last = f": {said[-1]}" if said else ""
        if code == -signal.SIGKILL:
            return f"the process was killed, as happens when memory runs out{last}"
        return f"the process ended with exit code {code}{last}"
