"""Code for GPUs, made and checked without one; see ``docs/gpu.md``."""

from __future__ import annotations

from tzwc.gpu.api import Lowered, interpret, lower
from tzwc.gpu.lowered import Kernel, Launch, Module, Origin, Program
from tzwc.gpu.processes import LoweringError, Process
from tzwc.gpu.target import TARGETS, Target

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
