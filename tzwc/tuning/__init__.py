"""Which algorithm is the fastest for a convolution: predicted, measured and remembered.

:func:`choose` answers for one :class:`tzwc.convolution.Problem`. ``tzwc calibrate`` measures what the predictions are
made of, once per machine; without it they come from a table. What was measured is remembered in files that
:mod:`tzwc.tuning.store` describes.
"""

from __future__ import annotations

from tzwc.tuning.choice import Candidate, Choice, Source, Tune, choose
from tzwc.tuning.store import Store, TuningWarning

__all__ = ["Candidate", "Choice", "Source", "Store", "Tune", "TuningWarning", "choose"]
