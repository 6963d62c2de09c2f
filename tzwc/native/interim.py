"""Watches in Python that become native ones by themselves once the extension has been built.

A watch may live as long as its program. One that was made in the first seconds, before the extension was there, would
otherwise stay a hundred times slower than those made after it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from tzwc.native.loader import extension
from tzwc.native.native_watch import native_dict_watch, native_tensor_watch
from tzwc.native.protocols import DictWatch, TensorWatch
from tzwc.native.python_watch import PythonDictWatch, PythonTensorWatch

__all__ = ["InterimDictWatch", "InterimTensorWatch"]


class InterimTensorWatch:
    """See :func:`tzwc.native.watch_tensors`."""

    def __init__(self, tensors: Sequence[Tensor], content: bool, compare_bytes: bool) -> None:
        self._watch: TensorWatch = PythonTensorWatch(tensors, content, compare_bytes)
        self._settings = (content, compare_bytes)
        self._interim = True

    def changed(self, tensors: Sequence[Tensor]) -> list[int]:
        """Indices of the tensors that differ from those recorded."""
        found = self._watch.changed(tensors)
        if self._interim and not found:
            module = extension.request()
            if module is not None:
                native = native_tensor_watch(module, tensors, *self._settings)
                # Asked again after the new record was made: what was written in between would be missing from both.
                found = self._watch.changed(tensors)
                if not found:
                    self._watch, self._interim = native, False
        return found


class InterimDictWatch:
    """See :func:`tzwc.native.watch_dicts`."""

    def __init__(self, dicts: Sequence[dict[Any, Any]]) -> None:
        self._watch: DictWatch = PythonDictWatch(dicts)
        self._dicts = dicts
        self._interim = True

    def changed(self) -> bool:
        """Whether any dict may have changed."""
        found = self._watch.changed()
        if self._interim and not found:
            module = extension.request()
            if module is not None:
                native = native_dict_watch(module, self._dicts)
                found = self._watch.changed()
                if not found:
                    self._watch, self._interim = native, False
        return found
