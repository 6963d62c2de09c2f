"""Makes watches, native ones as soon as the extension is there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from tzwc.native.interim import InterimDictWatch, InterimTensorWatch
from tzwc.native.loader import disabled, extension
from tzwc.native.native_watch import native_dict_watch, native_tensor_watch
from tzwc.native.protocols import DictWatch, TensorWatch
from tzwc.native.python_watch import PythonDictWatch, PythonTensorWatch

__all__ = ["ensure_native", "native_available", "native_reason", "watch_dicts", "watch_tensors"]


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
