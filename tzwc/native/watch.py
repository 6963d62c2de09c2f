"""Watches of dictionaries and tensors: native ones, or in Python until the extension has been built.

A watch may live as long as its program. One that was made in the first seconds, before the extension was there, would
otherwise stay a hundred times slower than those made after it; so it becomes a native one by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from torch import Tensor

from tzwc.native.loader import disabled, extension
from tzwc.native.python_watch import PythonDictWatch, PythonTensorWatch, Record

__all__ = [
    "DictWatch",
    "InterimDictWatch",
    "InterimTensorWatch",
    "TensorWatch",
    "ensure_native",
    "native_available",
    "native_dict_watch",
    "native_reason",
    "native_tensor_watch",
    "watch_dicts",
    "watch_tensors",
]


class TensorWatch(Protocol):
    """Remembers some tensors as they were when it was made."""

    def changed(self, tensors: Sequence[Tensor]) -> list[int]:
        """Indices, ascending, of the tensors that differ from those recorded; ``[]`` when none does.

        Args:
            tensors: what stands now where the recorded tensors stood, in the same order.

        Raises:
            ValueError: there are more or fewer tensors than were recorded.
            TypeError: an entry is not a tensor; the message names its position.
        """
        ...


class DictWatch(Protocol):
    """Remembers some dicts as they were when it was made."""

    def changed(self) -> bool:
        """Whether an entry may have been added, removed, moved or bound to another object since.

        May be True though everything was put back as it was; is never False when an entry is now bound to another
        object. What happens inside the values is not looked at.
        """
        ...


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


def watch_tensors(tensors: Sequence[Tensor], *, content: bool, compare_bytes: bool = False) -> TensorWatch:
    """Record tensors, to be told later which of them have changed.

    Args:
        tensors: what to watch.
        content: record, beside the layout (sizes, strides, dtype, device, requires_grad, lazy conjugation and
            negation), also identity, version counter and data pointer. Keeps the tensors and their storages alive,
            so that memory which is freed and used again cannot pass for the old one.
        compare_bytes: also keep a copy of the bytes of strided tensors in main memory and compare bit for bit: a NaN
            equals itself, 0 differs from −0. Tensors elsewhere are watched without their bytes.

    Of tensors that are not strided, of subclasses, of fake, meta and quantised ones as much is recorded as they tell.
    Not noticed without ``compare_bytes``: writes that move no version counter (``p.data.mul_()``, through numpy or
    DLPack), and a storage that was resized away and back to the same address.

    Raises:
        TypeError: an entry is not a tensor; the message names its position.
    """
    if disabled():
        return PythonTensorWatch(tensors, content, compare_bytes)
    module = extension.request()
    if module is None:
        return InterimTensorWatch(tensors, content, compare_bytes)
    return native_tensor_watch(module, tensors, content, compare_bytes)


def watch_dicts(dicts: Sequence[dict[Any, Any]]) -> DictWatch:
    """Record which keys are bound to which objects, to be told later whether that may have changed.

    The dicts are kept alive, and so may be what they held: an old value that has been replaced is only freed with the
    watch.

    Raises:
        TypeError: an entry is not a dict; the message names its position.
    """
    if disabled():
        return PythonDictWatch(dicts)
    module = extension.request()
    return InterimDictWatch(dicts) if module is None else native_dict_watch(module, dicts)


def native_available() -> bool:
    """Whether watches made from now on are native ones."""
    return not native_reason()


def native_reason() -> str:
    """Why watches are not native ones; empty when they are."""
    return "TZWC_NATIVE=0" if disabled() else extension.reason


def ensure_native(timeout: float) -> bool:
    """Build the extension if need be, and wait for it.

    Args:
        timeout: seconds.

    Returns:
        Whether watches made from now on are native ones.
    """
    return not disabled() and extension.wait(timeout)
