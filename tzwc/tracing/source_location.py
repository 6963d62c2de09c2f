"""Where in the user's program an operator was called: module path and source lines, read off the Python stack."""

from __future__ import annotations

import linecache
import sys
import traceback
from functools import lru_cache
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import torch
from torch import nn

__all__ = ["Origins"]

_LIBRARY = (str(Path(torch.__file__).parent), str(Path(__file__).parent))
_FRAMES = 8  # of the user's own, innermost last; more would only make metadata heavy


class Origins:
    """Reads the stack below one function, in terms of one module tree.

    Args:
        root: the module that is traced; paths are relative to it.
        entry: code of the function that calls it; frames outside of that are nobody's business.
    """

    def __init__(self, root: nn.Module, entry: CodeType) -> None:
        self._paths = {id(module): path for path, module in root.named_modules()}
        self._entry = entry

    def here(self) -> dict[str, Any]:
        """``nn_module_stack`` and ``stack_trace`` of the operator that is being called, as node metadata."""
        frames: list[str] = []
        modules: dict[str, tuple[str, str]] = {}
        frame: FrameType | None = sys._getframe(1)
        while frame is not None and frame.f_code is not self._entry:
            code = frame.f_code
            if len(frames) < _FRAMES and not code.co_filename.startswith(_LIBRARY):
                frames.append(_describe(code, frame.f_lineno))
            if code.co_name == "forward" and code.co_varnames:
                owner = frame.f_locals.get(code.co_varnames[0])
                path = self._paths.get(id(owner))
                if path is not None and path not in modules:
                    modules[path] = (path, type(owner).__qualname__)
            frame = frame.f_back
        return {
            "nn_module_stack": dict(reversed(modules.items())),
            "stack_trace": "".join(reversed(frames)),
        }

    def module_path(self) -> str:
        """Dotted path of the innermost module whose forward is being run; empty for the root, and outside of any."""
        stack: dict[str, Any] = self.here()["nn_module_stack"]
        return next(reversed(stack), "")

    def line(self) -> str:
        """The user's line that is being run, as ``file:line: code``; empty when there is none."""
        frame: FrameType | None = sys._getframe(1)
        while frame is not None and frame.f_code is not self._entry:
            code = frame.f_code
            if not code.co_filename.startswith(_LIBRARY):
                text = linecache.getline(code.co_filename, frame.f_lineno).strip()
                return f"{code.co_filename}:{frame.f_lineno}: {text}"
            frame = frame.f_back
        return ""

    def line_of(self, error: BaseException) -> str:
        """The user's line that raised ``error``, as :meth:`line` gives it."""
        line = ""
        for frame, number in traceback.walk_tb(error.__traceback__):
            name = frame.f_code.co_filename
            if not name.startswith(_LIBRARY):
                line = f"{name}:{number}: {linecache.getline(name, number).strip()}"
        return line


@lru_cache(maxsize=65536)
def _describe(code: CodeType, line: int) -> str:
    text = linecache.getline(code.co_filename, line).strip()
    return f'File "{code.co_filename}", line {line}, in {code.co_name}\n    {text}\n'
