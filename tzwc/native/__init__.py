"""Has anything changed? The question asked at every call about parameters and about the dicts that hold them.

A watch records what some tensors or dicts look like when it is made and tells later whether they still do. Two
implementations answer alike: one in Python, and one in C++ that is compiled in the background with the machine's own
compiler and is some twenty times faster. ``TZWC_NATIVE=0`` keeps to Python.

    watch = watch_tensors(parameters, content=True, compare_bytes=False)
    ...
    stale = watch.changed(parameters)  # indices; [] while all is as it was
"""

from tzwc.native.watch import (
    DictWatch,
    TensorWatch,
    ensure_native,
    native_available,
    native_reason,
    watch_dicts,
    watch_tensors,
)

__all__ = [
    "DictWatch",
    "TensorWatch",
    "ensure_native",
    "native_available",
    "native_reason",
    "watch_dicts",
    "watch_tensors",
]
