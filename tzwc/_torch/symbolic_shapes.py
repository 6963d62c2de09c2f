"""Expressions of symbolic sizes. Loads SymPy."""

from __future__ import annotations

from torch.utils._sympy import interp as _interp
from torch.utils._sympy import printers as _printers
from torch.utils._sympy import reference as _reference

PythonPrinter = _printers.PythonPrinter
"""Writes an expression as Python."""

PythonReferenceAnalysis = _reference.PythonReferenceAnalysis
"""What the functions in an expression are in Python: the handler for :func:`sympy_interp` that records arithmetic."""

sympy_interp = _interp.sympy_interp
"""Evaluate an expression with a handler."""
