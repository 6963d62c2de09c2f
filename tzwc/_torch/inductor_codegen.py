"""Inductor's code generation, for the process that lowers for a GPU which is not there. Takes seconds to load.

There is no public way to learn what Inductor launches and what it stands for, so this follows its classes closely.
"""

from __future__ import annotations

from typing import Any

import torch
from torch._dynamo import device_interface as _device_interface
from torch._functorch import config as _functorch_config
from torch._inductor import codecache as _codecache
from torch._inductor import compile_fx as _compile_fx
from torch._inductor import dependencies as _dependencies
from torch._inductor import graph as _graph
from torch._inductor import ir as _ir
from torch._inductor import scheduler as _scheduler
from torch._inductor import utils as _utils
from torch._inductor import virtualized as _virtualized
from torch._inductor.codegen import triton as _codegen_triton
from torch._inductor.codegen import wrapper as _codegen_wrapper
from torch._inductor.fx_passes import joint_graph as _joint_graph
from torch._inductor.fx_passes import post_grad as _post_grad
from torch._inductor.runtime import hints as _hints
from torch.utils import _triton

# Lowering.
compile_fx = _compile_fx.compile_fx
"""Lower a graph, with its backward pass."""

compile_fx_inner = _compile_fx.compile_fx_inner
"""Lower a graph of operators after derivatives have been taken."""

functorch_config = _functorch_config
"""Settings of AOTAutograd, which makes the graphs that Inductor lowers."""

GraphLowering = _graph.GraphLowering
"""A graph on its way to code."""

V = _virtualized.V
"""The graph and the kernel at hand."""

PyCodeCache = _codecache.PyCodeCache
"""Loads generated Python modules."""

# What is generated.
ir = _ir
"""Buffers and what computes them."""

IRNode = _ir.IRNode
"""Base class of these."""

Dep = _dependencies.Dep
"""A read or a write of a buffer."""

MemoryDep = _dependencies.MemoryDep
"""... at an index."""

StarDep = _dependencies.StarDep
"""... of the whole buffer."""

BaseSchedulerNode = _scheduler.BaseSchedulerNode
"""What is launched at once."""

ExternKernelSchedulerNode = _scheduler.ExternKernelSchedulerNode
"""A call of a library."""

Scheduler = _scheduler.Scheduler
"""Decides what is launched at once, and in which order."""

TritonScheduling = _codegen_triton.TritonScheduling
"""Writes Triton kernels."""

PythonWrapperCodegen = _codegen_wrapper.PythonWrapperCodegen
"""Writes the Python around kernels."""

sympy_product = _utils.sympy_product
"""The product of some expressions."""

# The device that is not there.
device_interface = _device_interface
"""What Dynamo and Inductor ask of a type of device."""

LAZILY_TRACED_PATTERNS: tuple[Any, ...] = (_joint_graph, _post_grad)
"""Modules whose ``lazy_init`` traces Inductor's patterns on the device of the graph."""

DeviceProperties = _hints.DeviceProperties
"""What Inductor writes into its code of a device."""

triton_questions = _triton
"""Functions that ask, and remember, what Triton can do here."""

dynamo_guards: Any = torch._C._dynamo.guards
"""Where generated code takes memory: ``_empty_strided_cpu`` and its likes."""

torch_c: Any = torch._C
"""The extension module itself, to replace functions that ask a driver."""
