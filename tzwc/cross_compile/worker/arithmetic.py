"""Bytes and floating-point operations of what is launched, where Inductor does not count them itself."""

from __future__ import annotations

import ast
import math
from collections.abc import Iterable, Sequence
from typing import Any, TypeGuard

import torch
from torch import fx
from torch._inductor.dependencies import Dep, MemoryDep, StarDep
from torch._inductor.ir import IRNode
from torch._inductor.utils import sympy_product
from torch._inductor.virtualized import V

__all__ = [
    "dot_bytes",
    "dot_flops",
    "extern_bytes",
    "extern_flops",
    "kernel_bytes",
    "kernel_operations",
    "transform_passes",
    "unread_bytes",
]

_ARITHMETIC = ("libdevice", "tl_math", "triton_helpers")


def kernel_bytes(kernel: Any) -> int:
    """Bytes that a generated kernel reads and writes, each element of a buffer that it touches once each way.

    Inductor's own estimate is not used: it counts a buffer that is written where a dead one was as read as well, and
    leaves out what is read from the middle of another buffer.

    Args:
        kernel: Inductor's, when its code has been generated.
    """
    gone = kernel.removed_buffers | kernel.inplaced_to_remove | V.graph.removed_buffers | V.graph.inplaced_to_remove
    read: dict[str, set[Dep]] = {}
    written: dict[str, set[Dep]] = {}
    for node in kernel.features.scheduler_nodes():
        for found, accesses in ((read, node.read_writes.reads), (written, node.read_writes.writes)):
            for access in accesses:
                if isinstance(access, (MemoryDep, StarDep)) and access.name not in gone:
                    found.setdefault(access.name, set()).add(access)
    # What the kernel writes itself it has in registers.
    outside = {name: accesses for name, accesses in read.items() if name not in written}
    return sum(_touched(name, accesses) for found in (outside, written) for name, accesses in found.items())


def _touched(name: str, accesses: Iterable[Dep]) -> int:
    """Bytes of the elements of a buffer that are accessed, at most all.

    Accesses that begin at the same element and are of as many are taken for the same: loops of different nesting say
    the same in different words.
    """
    name = V.graph.scheduler.mutation_real_name.get(name, name)  # a buffer that is written into gets another name
    hint = V.graph.sizevars.optimization_hint
    whole = hint(V.graph.get_numel(name))
    places = {_place(access, whole) for access in accesses}
    return int(min(sum(hint(count) for _, count in places), whole)) * V.graph.get_dtype(name).itemsize


def _place(access: Dep, whole: int) -> tuple[Any, Any]:
    if not isinstance(access, MemoryDep):
        return 0, whole
    return access.index.subs(dict.fromkeys(access.index.free_symbols, 0)), access.get_numel()


def unread_bytes(inputs: Iterable[Any]) -> int:
    """Bytes of the buffers behind the operands of a library call that are not part of any operand.

    Args:
        inputs: Inductor's, views and whole buffers.
    """
    hint = V.graph.sizevars.optimization_hint
    views: dict[str, set[tuple[Any, int]]] = {}
    for value in inputs:
        if isinstance(value, IRNode) and value.maybe_get_layout() is not None:
            layout = value.get_layout()
            views.setdefault(value.get_name(), set()).add((layout.offset, hint(sympy_product(layout.size))))
    total = 0
    for name, parts in views.items():
        left = hint(V.graph.get_numel(name)) - sum(count for _, count in parts)
        total += max(int(left), 0) * V.graph.get_dtype(name).itemsize
    return total


def kernel_operations(source: str) -> int:
    """Floating-point operations that a generated Triton kernel does for one element, read off its source.

    Inductor writes one temporary for each operation. Counted are sums, differences, products, quotients and calls of
    mathematical functions that are assigned to one; index arithmetic, masks, conversions and comparisons are not.
    A function such as ``erf`` counts as one.
    """
    tree = ast.parse(source)
    kernels = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    return sum(_is_arithmetic(node) for kernel in kernels for node in ast.walk(kernel))


def _is_arithmetic(node: ast.AST) -> bool:
    if not isinstance(node, ast.Assign) or not isinstance(node.targets[0], ast.Name):
        return False
    if not node.targets[0].id.startswith(("tmp", "_tmp")):
        return False
    value = node.value
    if isinstance(value, ast.BinOp):
        return isinstance(value.op, (ast.Add, ast.Sub, ast.Mult, ast.Div))
    while isinstance(value, ast.Subscript) or _is_conversion(value):
        value = value.value if isinstance(value, ast.Subscript) else value.func.value
    if not isinstance(value, ast.Call) or not isinstance(value.func, ast.Attribute):
        return False
    owner = value.func.value
    reduces = value.func.attr in ("sum", "prod", "reduce", "associative_scan")
    return isinstance(owner, ast.Name) and (owner.id in _ARITHMETIC or (owner.id == "tl" and reduces))


def _is_conversion(value: ast.AST) -> TypeGuard[Any]:
    return isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute) and value.func.attr == "to"


def dot_flops(call: fx.Node) -> int:
    """Operations of a ``fused_dot``: of its products."""
    left, results = call.args[0], call.meta["val"]
    assert isinstance(left, fx.Node)
    return sum(2 * result.numel() * int(left.meta["val"].shape[-1]) for result in results)


def dot_bytes(call: fx.Node) -> int:
    """Bytes of the operands and results of a ``fused_dot``, each touched once."""
    operands = [node.meta["val"] for node in call.all_input_nodes]
    return sum(value.numel() * value.element_size() for value in (*operands, *call.meta["val"]))


def extern_flops(origin: fx.Node | None, values: Sequence[torch.Tensor]) -> int:
    """Operations of a Fourier transform, ``2.5 n log2 n`` for `n` real points, or of complex arithmetic; else 0."""
    if origin is None or not values:
        return 0
    axes = transform_axes(origin)
    result = values[-1]
    if axes:
        real = max((value for value in values if not value.is_complex()), key=torch.Tensor.numel, default=None)
        if real is None:
            points = math.prod(result.shape[axis] for axis in axes)
            return int(5 * result.numel() * math.log2(max(points, 2)))
        points = math.prod(real.shape[axis] for axis in axes)
        return int(2.5 * real.numel() * math.log2(max(points, 2)))
    if result.is_complex() and str(origin.target).startswith("aten.mul"):
        return 6 * result.numel()
    return 0


def extern_bytes(origin: fx.Node | None, values: Sequence[torch.Tensor]) -> int:
    """Bytes of a Fourier transform: what it reads and writes, its spectrum once more each way for every axis after the
    first, and what is copied to pad its input; 0 for anything else."""
    if origin is None or not transform_axes(origin):
        return 0
    spectrum = max((v.numel() * v.element_size() for v in values if v.is_complex()), default=0)
    once = sum(value.numel() * value.element_size() for value in values)
    return once + 2 * spectrum * (len(transform_axes(origin)) - 1) + 2 * _padded_bytes(origin)


def transform_passes(origin: fx.Node | None) -> int:
    """Kernels that a Fourier transform launches, taken to be one for each axis, and two where it pads its input (one
    clears, one copies); 0 for anything else."""
    if origin is None:
        return 0
    return len(transform_axes(origin)) + 2 * bool(_padded_bytes(origin))


def _padded_bytes(origin: fx.Node) -> int:
    """The size of the padded input where a transform makes that itself: what is longer than the input given."""
    if str(origin.target) != "tzwc.rfftn.default":
        return 0
    source, size = origin.args
    assert isinstance(source, fx.Node)
    assert isinstance(size, (tuple, list))
    x = source.meta["val"]
    lengths = x.shape[x.dim() - len(size) :]
    if all(n <= have for n, have in zip(size, lengths, strict=True)):
        return 0
    rows = math.prod(x.shape[: x.dim() - len(size)])
    return int(rows * math.prod(size) * x.element_size())


def transform_axes(origin: fx.Node) -> list[int]:
    """The axes that a Fourier transform runs over."""
    name = str(origin.target)
    if name in ("tzwc.rfftn.default", "tzwc.irfftn.default"):
        size = origin.args[1]
        assert isinstance(size, (tuple, list))
        return list(range(-len(size), 0))
    if name.startswith("aten._fft_"):
        axes = origin.args[1]
        assert isinstance(axes, (tuple, list))
        return [int(axis) for axis in axes if isinstance(axis, int)]
    return []
