"""Put a kernel of our own into a graph for CUDA where the cost model says that it is faster."""

from __future__ import annotations

import importlib.util
import math
import operator
from collections.abc import Sequence

import torch
from torch import Tensor, fx

from tzwc.ir.graph import hint, insert_call, replace_node, tensor_value
from tzwc.ir.logs import passes_log
from tzwc.ir.snapshot import copy_graph
from tzwc.lowering.gpu.hyperzzw_dot import MOST_VALUES, fused_dot
from tzwc.lowering.gpu.target import LAUNCH_SECONDS, TARGETS, Target
from tzwc.ops import hyperzzw_dot
from tzwc.rewrite.rules import erase_if_dead

__all__ = ["EFFICIENCY", "MARGIN", "for_devices", "use_kernels"]

EFFICIENCY = 0.4
"""Share of the peak that ``tl.dot`` is taken to reach in small blocks; an assumption, not a measurement."""

MARGIN = 1.1
"""How many times faster the kernel must be by the model before it is used."""

_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def use_kernels(module: fx.GraphModule, target: Target, *, tf32: bool = False) -> list[str]:
    """Replace in place what a kernel does faster on ``target`` by the model; returns the names of the new nodes.

    Does nothing where Triton is not installed.
    """
    if importlib.util.find_spec("triton") is None:
        return []
    made = []
    for node in list(module.graph.nodes):
        if node.op == "call_function" and node.target is hyperzzw_dot and _is_faster(node, target, tf32):
            product = node.kwargs.get("product")
            z, kernel, *values = node.args
            # A product that the program needs elsewhere too is in memory already.
            operands = (product, None) if isinstance(product, fx.Node) else (z, kernel)
            with module.graph.inserting_before(node):
                made_by = "lowering/hyperzzw_dot"
                new = insert_call(
                    module.graph, fused_dot, (*operands, *values), {"tf32": tf32}, like=node, made_by=made_by
                )
            replace_node(node, new)
            erase_if_dead(node)
            made.append(new.name)
    if made:
        module.recompile()
    return made


def for_devices(module: fx.GraphModule, examples: Sequence[Tensor]) -> fx.GraphModule:
    """A copy of ``module`` with our kernels where its arguments are on a GPU and they are faster; else itself."""
    device = next((example.device for example in examples if example.device.type == "cuda"), None)
    if device is None or not any(node.target is hyperzzw_dot for node in module.graph.nodes):
        return module
    new = torch.cuda.get_device_capability(device) >= (9, 0)
    name = "hip:gfx942" if torch.version.hip else "cuda:90" if new else "cuda:80"
    copy = fx.GraphModule(module, copy_graph(module.graph))
    try:
        return copy if use_kernels(copy, TARGETS[name], tf32=torch.backends.cuda.matmul.allow_tf32) else module
    except (RuntimeError, TypeError, ValueError) as error:
        # An operator that rejects fake tensors, a size without a number: a library does what the kernel would.
        passes_log.warning("the kernel for hyperzzw_dot cannot be used: %s: %s", type(error).__name__, error)
        return module


def _is_faster(node: fx.Node, target: Target, tf32: bool) -> bool:
    product = node.kwargs.get("product")
    operands = [tensor_value(argument) for argument in node.args]
    if any(value is None for value in operands) or any(user.target is not operator.getitem for user in node.users):
        return False
    z, kernel, *values = (value for value in operands if value is not None)
    left = tensor_value(product) if isinstance(product, fx.Node) else None
    shape = tuple(torch.broadcast_shapes(_sizes(z), _sizes(kernel)))  # type: ignore[no-untyped-call]
    right = _sizes(values[0])
    if len(right) != 4 or len(shape) != 4 or 0 in (*shape, *right):
        return False
    shape = (*right[:2], *shape[2:])
    if z.device.type != "cuda" or len(values) > MOST_VALUES or (left is not None and _sizes(left) != shape):
        return False
    if z.dtype not in _DTYPES or any(value.dtype != z.dtype for value in (kernel, *values)):
        return False
    alone = product is None
    library = _library(shape, right, len(values), alone, z.element_size(), z.dtype, target, tf32)
    inputs = (_bytes(z) + _bytes(kernel)) if alone else math.prod(shape) * z.element_size()
    return library > MARGIN * _fused(inputs, shape, right, len(values), z.element_size(), z.dtype, target, tf32)


def _library(
    shape: Sequence[int], right: Sequence[int], count: int, alone: bool, element: int, dtype: torch.dtype,
    target: Target, tf32: bool,
) -> float:  # fmt: skip
    """Seconds of one product for each value, and of the elementwise product where it is made for these alone."""
    weights, value, result = (math.prod(sizes) * element for sizes in (shape, right, _result(shape, right)))
    flops = 2 * math.prod(_result(shape, right)) * shape[-1]
    rate = target.product_rate(str(dtype).removeprefix("torch."), tf32=tf32)
    one = LAUNCH_SECONDS + max((weights + value + result) / target.bandwidth, flops / rate)
    return count * one + (LAUNCH_SECONDS + 2 * weights / target.bandwidth if alone else 0.0)


def _fused(
    inputs: int, shape: Sequence[int], right: Sequence[int], count: int, element: int, dtype: torch.dtype,
    target: Target, tf32: bool,
) -> float:  # fmt: skip
    """Seconds of the kernel, which reads its left side once for every block of columns."""
    result = math.prod(_result(shape, right)) * element
    blocks = -(-right[-1] // 32)
    moved = blocks * inputs + count * (-(-shape[-2] // 32) * math.prod(right) * element + result)
    flops = 2 * count * math.prod(_result(shape, right)) * shape[-1]
    rate = EFFICIENCY * target.product_rate(str(dtype).removeprefix("torch."), tf32=tf32)
    return LAUNCH_SECONDS + max(moved / target.bandwidth, flops / rate)


def _result(shape: Sequence[int], right: Sequence[int]) -> tuple[int, ...]:
    return (*shape[:-1], right[-1])


def _sizes(value: Tensor) -> tuple[int, ...]:
    """The sizes of a value, as seen at capture where they are symbolic: the kernel is right for all of them."""
    return tuple(map(hint, value.shape))


def _bytes(value: Tensor) -> int:
    return math.prod(_sizes(value)) * value.element_size()
