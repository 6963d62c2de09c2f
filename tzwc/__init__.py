"""tzwc: a compiler-style graph library for models whose weights are written by other networks.

Names are imported when they are first used, so that ``tzwc --help`` need not wait for PyTorch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tzwc import dynamo, inspection, models, ops, passes
    from tzwc.api import compile
    from tzwc.cross_compile.api import lower
    from tzwc.debug.bisect import Bisection, bisect
    from tzwc.debug.verify import Verification, verify
    from tzwc.errors import CaptureError, InvalidArgumentError, PassError, SpecError, TzwcError
    from tzwc.inspection import Stage
    from tzwc.ir.remarks import Location, Remark
    from tzwc.lowering.double_backward import SecondDerivativeError
    from tzwc.runtime.accumulate import AccumulationError
    from tzwc.runtime.compiled_module import CompiledModule
    from tzwc.tracing.assumptions import Assumption
    from tzwc.tracing.capture import Capture, capture

__all__ = [
    "AccumulationError",
    "Assumption",
    "Bisection",
    "Capture",
    "CaptureError",
    "CompiledModule",
    "InvalidArgumentError",
    "Location",
    "PassError",
    "Remark",
    "SecondDerivativeError",
    "SpecError",
    "Stage",
    "TzwcError",
    "Verification",
    "bisect",
    "capture",
    "compile",
    "dynamo",
    "inspection",
    "lower",
    "models",
    "ops",
    "passes",
    "verify",
]

_HOMES = {
    "AccumulationError": "tzwc.runtime.accumulate",
    "Assumption": "tzwc.tracing.assumptions",
    "Bisection": "tzwc.debug.bisect",
    "Capture": "tzwc.tracing.capture",
    "CaptureError": "tzwc.errors",
    "CompiledModule": "tzwc.runtime.compiled_module",
    "InvalidArgumentError": "tzwc.errors",
    "Location": "tzwc.ir.remarks",
    "PassError": "tzwc.errors",
    "Remark": "tzwc.ir.remarks",
    "SecondDerivativeError": "tzwc.lowering.double_backward",
    "SpecError": "tzwc.errors",
    "Stage": "tzwc.inspection",
    "TzwcError": "tzwc.errors",
    "Verification": "tzwc.debug.verify",
    "bisect": "tzwc.debug.bisect",
    "capture": "tzwc.tracing.capture",
    "compile": "tzwc.api",
    "lower": "tzwc.cross_compile.api",
    "verify": "tzwc.debug.verify",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'tzwc' has no attribute {name!r}")
    if name not in _HOMES:
        return import_module(f"tzwc.{name}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
