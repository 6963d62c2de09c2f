"""Watches that leave plain tensors to the extension and see to all others in Python."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from tzwc.native.protocols import DictWatch, TensorWatch
from tzwc.native.python_watch import Record

__all__ = ["native_dict_watch", "native_tensor_watch"]


def native_tensor_watch(module: Any, tensors: Sequence[Tensor], content: bool, compare_bytes: bool) -> TensorWatch:
    """The native twin of :class:`~tzwc.native.python_watch.PythonTensorWatch`."""
    tensors = tuple(tensors)
    watch = module.TensorWatch(tensors, content, compare_bytes)
    others = {i: Record.of(tensors[i], content, compare_bytes) for i in watch.others()}
    plain: TensorWatch = watch
    return _MixedTensorWatch(plain, others) if others else plain


def native_dict_watch(module: Any, dicts: Sequence[dict[Any, Any]], lockstep: bool = False) -> DictWatch:
    """The native twin of :class:`~tzwc.native.python_watch.PythonDictWatch`.

    Args:
        module: the extension.
        dicts: what to watch.
        lockstep: compare all keys and values, as is always done where dicts have no versions (from CPython 3.12).
    """
    watch: DictWatch = module.DictWatch(tuple(dicts), lockstep)
    return watch


class _MixedTensorWatch:
    def __init__(self, plain: TensorWatch, others: dict[int, Record]) -> None:
        self._plain = plain
        self._others = others

    def changed(self, tensors: Sequence[Tensor]) -> list[int]:
        found = self._plain.changed(tensors)
        found += [i for i, record in self._others.items() if record.differs(tensors[i])]
        return sorted(found)
