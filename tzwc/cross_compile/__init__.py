"""Code for GPUs, made and checked without one; see ``docs/gpu.md``."""

from __future__ import annotations

from tzwc.cross_compile.api import Lowered, interpret, lower
from tzwc.cross_compile.process import LoweringError, Process
from tzwc.cross_compile.program import Kernel, Launch, Module, Origin, Program
from tzwc.lowering.gpu.target import TARGETS, Target

__all__ = [
    "TARGETS",
    "Kernel",
    "Launch",
    "Lowered",
    "LoweringError",
    "Module",
    "Origin",
    "Process",
    "Program",
    "Target",
    "interpret",
    "lower",
]
