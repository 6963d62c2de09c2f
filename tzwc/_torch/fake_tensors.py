"""Tensors without memory, by which graphs are traced."""

from __future__ import annotations

from torch import _guards
from torch._subclasses import fake_tensor as _fake_tensor

FakeTensor = _fake_tensor.FakeTensor
"""A tensor that has sizes, strides, an element type and a device, and no memory."""

FakeTensorMode = _fake_tensor.FakeTensorMode
"""The dispatch mode that makes fake tensors and runs operators on them."""

FakeCopyMode = _fake_tensor.FakeCopyMode
"""Function mode in which ``copy.deepcopy`` makes fake tensors of real ones."""

DataDependentOutputException = _fake_tensor.DataDependentOutputException
"""Raised by operators on fake tensors whose result depends on values, such as ``.item()``."""

DynamicOutputShapeException = _fake_tensor.DynamicOutputShapeException
"""Raised by operators on fake tensors whose result's sizes depend on values, such as ``nonzero``."""

detect_fake_mode = _guards.detect_fake_mode
"""The mode of the fake tensors among some values, or the active one, or ``None``."""

TracingContext = _guards.TracingContext
"""What compilers know of the graph at hand; Inductor takes the fake mode from it."""

tracing = _guards.tracing
"""Context manager with a :class:`TracingContext` in force."""
