"""Start and talk to a process that believes in a GPU, so that nothing of that belief leaks into this one."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Literal

from tzwc.errors import TzwcError

__all__ = ["Action", "LoweringError", "Process", "require_triton"]

Action = Literal["lower", "run"]


class LoweringError(TzwcError):
    """A graph could not be lowered for a GPU, or lowering needs something that is not installed."""


def require_triton() -> None:
    """Make sure that Triton can be imported.

    Raises:
        LoweringError: it is not installed; the message says how to install it.
    """
    if importlib.util.find_spec("triton") is None:
        raise LoweringError(
            "lowering for a GPU needs Triton, which is not installed: pip install 'tzwc[triton]' "
            "(a package for Linux; no GPU and no CUDA is needed)"
        )


class Process:
    """A process for one kind of jobs; use it as a context manager.

    Args:
        action: ``lower`` generates and compiles code; ``run`` runs it in Triton's interpreter, which is a matter of
            the whole process.
    """

    def __init__(self, action: Action) -> None:
        require_triton()
        self.action = action
        self._folder = tempfile.TemporaryDirectory(prefix="tzwc-gpu-")
        self._log: IO[bytes] = (Path(self._folder.name) / "log").open("w+b")
        environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
        environment |= {
            "TORCHINDUCTOR_CACHE_DIR": str(Path(self._folder.name) / "inductor"),
            "TRITON_CACHE_DIR": str(Path(self._folder.name) / "triton"),
            "OMP_NUM_THREADS": "1",
            **({"TRITON_INTERPRET": "1"} if action == "run" else {}),
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tzwc.cross_compile.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env=environment,
        )

    def __enter__(self) -> Process:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the process and remove its files."""
        self._process.terminate()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:  # deep in a compiler, where a handler of the signal is not reached
            self._process.kill()
            self._process.wait()
        streams: tuple[IO[Any] | None, ...] = (self._process.stdin, self._process.stdout, self._log)
        for stream in filter(None, streams):
            with suppress(BrokenPipeError):  # a request that a process which has died did not read
                stream.close()
        self._folder.cleanup()

    def ask(self, folder: Path) -> dict[str, Any]:
        """Do the job in ``folder`` and return its answer.

        Raises:
            LoweringError: it failed, or the process died; the message says why.
        """
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        request = {"action": self.action, "folder": str(folder.resolve()), "path": sys.path}
        try:
            stdin.write(json.dumps(request) + "\n")
            stdin.flush()
            line = stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise LoweringError(f"the process that lowers has died: {self._last_words()}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            error = LoweringError(f"lowering failed: {answer['error']}")
            error.__cause__ = RuntimeError(answer["traceback"])
            raise error
        result: dict[str, Any] = answer["result"]
        return result

    def _last_words(self) -> str:
        self._process.wait()
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").strip().splitlines()
        telling = [line for line in lines if "Error" in line or "what()" in line] or lines[-1:]
        return telling[-1] if telling else f"exit code {self._process.returncode}"
