"""tzwc: a compiler-style graph library for models whose weights are written by other networks.

Names are imported when they are first used, so that ``tzwc --help`` need not wait for PyTorch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tzwc import dynamo, inspection, models, ops, passes
    from tzwc.accumulate import AccumulationError
    from tzwc.api import compile
    from tzwc.assumptions import Assumption
    from tzwc.bisection import Bisection, bisect
    from tzwc.compiled import CompiledModule
    from tzwc.double_backward import SecondDerivativeError
    from tzwc.errors import CaptureError, InvalidArgumentError, PassError, SpecError, TzwcError
    from tzwc.gpu.api import lower
    from tzwc.graph_capture import Capture, capture
    from tzwc.numerics import Verification, verify
    from tzwc.remarks import Location, Remark
    from tzwc.stage import Stage

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
    "AccumulationError": "tzwc.accumulate",
    "Assumption": "tzwc.assumptions",
    "Bisection": "tzwc.bisection",
    "Capture": "tzwc.graph_capture",
    "CaptureError": "tzwc.errors",
    "CompiledModule": "tzwc.compiled",
    "InvalidArgumentError": "tzwc.errors",
    "Location": "tzwc.remarks",
    "PassError": "tzwc.errors",
    "Remark": "tzwc.remarks",
    "SecondDerivativeError": "tzwc.double_backward",
    "SpecError": "tzwc.errors",
    "Stage": "tzwc.stage",
    "TzwcError": "tzwc.errors",
    "Verification": "tzwc.numerics",
    "bisect": "tzwc.bisection",
    "capture": "tzwc.graph_capture",
    "compile": "tzwc.api",
    "lower": "tzwc.gpu.api",
    "verify": "tzwc.numerics",
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
