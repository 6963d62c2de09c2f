"""Which algorithm is the fastest for a convolution: predicted, measured and remembered.

:func:`choose` answers for one :class:`tzwc.ops.conv.Problem`. ``tzwc calibrate`` measures what the predictions are
made of, once per machine; without it they come from a table. What was measured is remembered in files that
:mod:`tzwc.util.disk_cache` describes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tzwc.util.disk_cache import Store, TuningWarning

if TYPE_CHECKING:
    from tzwc.autotune.choice import Candidate, Choice, Source, Tune, choose

__all__ = ["Candidate", "Choice", "Source", "Store", "Tune", "TuningWarning", "choose"]


def __getattr__(name: str) -> Any:  # the store is of use without PyTorch, which takes seconds to import
    if name not in __all__:
        raise AttributeError(f"module 'tzwc.autotune' has no attribute {name!r}")
    from tzwc.autotune import choice

    return getattr(choice, name)
