"""tzwc: a compiler-style graph library for models whose weights are written by other networks."""

from tzwc import models, ops, passes
from tzwc.accumulate import AccumulationError
from tzwc.api import compile
from tzwc.capture import Capture, capture
from tzwc.compiled import CompiledModule
from tzwc.errors import CaptureError, InvalidArgumentError, PassError, SpecError, TzwcError
from tzwc.remarks import Location, Remark

__all__ = [
    "AccumulationError",
    "Capture",
    "CaptureError",
    "CompiledModule",
    "InvalidArgumentError",
    "Location",
    "PassError",
    "Remark",
    "SpecError",
    "TzwcError",
    "capture",
    "compile",
    "models",
    "ops",
    "passes",
]
