"""The extension of this process: loaded if it was built before, otherwise built in the background."""

from __future__ import annotations

import atexit
import os
import signal
import subprocess
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

from tzwc.native.build import BuildError, compile_library, default_directory, library_path, load_library

__all__ = ["Extension", "disabled", "extension"]


def disabled() -> bool:
    """Whether ``TZWC_NATIVE=0`` asks for Python only."""
    return os.environ.get("TZWC_NATIVE") == "0"


class Extension:
    """Gets the extension module without ever making a caller wait who does not want to.

    Args:
        directory: where libraries are kept; by default what the environment says when it is first needed.
    """

    def __init__(self, directory: Path | None = None) -> None:
        self._directory = directory
        self._reset()

    def _reset(self) -> None:
        """As new, except for a module that is there. A forked child has none of its parent's threads or children."""
        self._lock = threading.Lock()
        self._done = threading.Event()
        self._started = False
        self._build: tuple[subprocess.Popen[str], Path] | None = None
        self.module: Any = getattr(self, "module", None)
        self.reason = "no watch has been made yet"
        if self.module is not None:
            self._started, self.reason = True, ""
            self._done.set()

    def request(self) -> Any:
        """The module, or None while there is none. The first call loads it or starts to build it."""
        if self._started:
            return self.module
        with self._lock:
            if not self._started:
                self._started = True
                self._start()
        return self.module

    @property
    def building(self) -> bool:
        """Whether it is being built now."""
        return self._started and not self._done.is_set()

    @property
    def failure(self) -> str:
        """Why it will not come; empty while that is not known, and where it is there or was not asked for."""
        return self.reason if self._done.is_set() and self.module is None else ""

    def wait(self, timeout: float) -> bool:
        """Request the module and wait for it; ``timeout`` in seconds. Whether it is there."""
        self.request()
        self._done.wait(timeout)
        return self.module is not None

    def stop(self) -> None:
        """End a build that is under way and leave nothing of it."""
        build = self._build
        if build is not None and build[0].poll() is None:
            with suppress(OSError):
                os.killpg(build[0].pid, signal.SIGTERM)  # on which compilers remove their own temporary files
            build[1].unlink(missing_ok=True)

    def _start(self) -> None:
        try:
            path = library_path(self._directory or default_directory())
            if path.exists():
                self._finish(load_library(path))
                return
        except (BuildError, OSError, RuntimeError):
            pass  # built anew, and the reason is found again if that does not help
        self.reason = "being built"
        try:
            threading.Thread(target=self._compile, name="tzwc-build", daemon=True).start()
        except RuntimeError as error:  # no more threads, or the interpreter is ending
            self.reason = str(error)
            self._done.set()

    def _compile(self) -> None:
        try:
            path = library_path(self._directory or default_directory())
            compile_library(path, self._on_start)
            self._finish(load_library(path))
        except Exception as error:  # whatever it is, there is the twin in Python
            self.reason = str(error) or type(error).__name__
        finally:
            self._build = None
            self._done.set()

    def _on_start(self, process: subprocess.Popen[str], temporary: Path) -> None:
        self._build = (process, temporary)

    def _finish(self, module: Any) -> None:
        self.reason = ""
        self.module = module
        self._done.set()


extension = Extension()
atexit.register(extension.stop)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=extension._reset)
