"""In-place operators as functional ones: the value that is written, and the memory with that value in it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx

from tzwc.ir.op_schemas import functional_form
from tzwc.tracing.graph_builder import Recorder, needs_gradient
from tzwc.tracing.storage import Memory

__all__ = ["flat_value", "store", "written_value"]

aten = torch.ops.aten


def written_value(recorder: Recorder, func: Any, args: Any, kwargs: Any, requires_grad: bool) -> fx.Node:
    """What the in-place operator ``func`` leaves in its first argument, computed without writing.

    Args:
        args, kwargs: nodes and constants.
        requires_grad: whether what is written would.
    """
    target: fx.Node = args[0]
    fake = target.meta["val"]
    functional = functional_form(func)
    if func is aten.copy_.default:
        # aten.copy has no derivative.
        value = recorder.evaluate(aten.to.dtype, args[1], fake.dtype, requires_grad=requires_grad)
        value = recorder.evaluate(aten.expand.default, value, list(fake.shape), requires_grad=requires_grad)
        return recorder.evaluate(aten.clone.default, value, requires_grad=requires_grad)
    if functional is not None and not kwargs:
        value = recorder.evaluate(functional, *args, requires_grad=requires_grad)
        if value.meta["val"].dtype != fake.dtype:
            value = recorder.evaluate(aten.to.dtype, value, fake.dtype, requires_grad=requires_grad)
        if value.meta["val"].shape == fake.shape:
            return value
    copy = recorder.evaluate(aten.clone.default, target, requires_grad=needs_gradient(target))
    node = recorder.call(func, (copy, *args[1:]), kwargs)
    recorder.describe(node, copy.meta["val"], requires_grad)
    return node


def flat_value(recorder: Recorder, memory: Memory, tensor: Tensor) -> fx.Node | None:
    """All elements of the memory behind ``tensor`` as a one-dimensional node; ``None`` when it cannot be had."""
    if memory.value is None:
        first = memory.first
        if first is None or not isinstance(first.meta.get("val"), Tensor):
            return None
        fake = first.meta["val"]
        elements = tensor.untyped_storage().nbytes() // tensor.element_size()
        if fake.dtype != tensor.dtype or not fake.is_contiguous() or fake.numel() != elements:
            return None
        memory.value = recorder.evaluate(aten.reshape.default, first, [-1], requires_grad=needs_gradient(first))
    return memory.value


def store(recorder: Recorder, memory: Memory, flat: fx.Node, value: fx.Node, target: Tensor) -> None:
    """Let ``memory``, so far ``flat``, hold ``value`` where ``target`` lies."""
    if target.is_contiguous() and target.numel() == flat.meta["val"].numel():
        dense = value if value.meta["val"].is_contiguous() else recorder.evaluate(aten.contiguous.default, value)
        memory.value = recorder.evaluate(aten.reshape.default, dense, [-1], requires_grad=needs_gradient(value))
    else:
        # Scattered by position: the derivative of as_strided_scatter is wrong for sources that are not contiguous.
        place = list(target.shape), list(target.stride()), target.storage_offset()
        elements = flat.meta["val"].numel()
        positions = recorder.evaluate(aten.arange.default, elements)
        positions = recorder.evaluate(aten.as_strided.default, positions, *place)
        positions = recorder.evaluate(aten.reshape.default, positions, [-1])
        source = recorder.evaluate(aten.reshape.default, value, [-1], requires_grad=needs_gradient(value))
        requires_grad = needs_gradient(flat) or needs_gradient(value)
        memory.value = recorder.evaluate(aten.scatter.src, flat, 0, positions, source, requires_grad=requires_grad)
    memory.version += 1
