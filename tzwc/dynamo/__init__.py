"""``torch.compile(model, backend="tzwc")``: the passes of ``tzwc`` inside Dynamo's graphs.

Dynamo decides what a graph is (it breaks off where it must, guards what it assumed, and makes sizes dynamic); the
passes, the kept static values and the lowering are those of ``tzwc.compile``. :func:`compiled_graphs` shows what was
made of every graph.
"""

from __future__ import annotations

from tzwc.dynamo.backend import backend
from tzwc.dynamo.compiled_graph import CompiledGraph, compiled_graphs

__all__ = ["CompiledGraph", "backend", "compiled_graphs"]
