"""Both implementations of the watches, under one interface."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from tzwc.native.python_watch import PythonDictWatch, PythonTensorWatch
from tzwc.native.watch import DictWatch, TensorWatch, native_dict_watch, native_tensor_watch

BUILD_SECONDS = 300.0


class Twin:
    """One implementation: Python's where there is no module."""

    def __init__(self, module: Any = None, lockstep: bool = False) -> None:
        self.module = module
        self.lockstep = lockstep

    def tensors(self, tensors: Sequence[Tensor], content: bool = True, compare_bytes: bool = False) -> TensorWatch:
        if self.module is None:
            return PythonTensorWatch(tensors, content, compare_bytes)
        return native_tensor_watch(self.module, tensors, content, compare_bytes)

    def dicts(self, dicts: Sequence[dict[Any, Any]]) -> DictWatch:
        if self.module is None:
            return PythonDictWatch(dicts)
        return native_dict_watch(self.module, dicts, self.lockstep)
