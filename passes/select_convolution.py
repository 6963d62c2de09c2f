"""Choose for every convolution how to compute it: native, padded first, channels-last, or by FFT.

Legality first: FFT needs real floating-point tensors, dilation 1 and sizes known at capture apart from the batch. Then
:mod:`tzwc.passes.convolution_cost` predicts the seconds of each candidate at the sizes seen at capture, and the
cheapest wins if ``native`` is clearly slower. An FFT becomes two calls, ``kernel_spectrum`` and ``fft_convolution``, so
that a later pass can keep the spectrum of a kernel that does not depend on the input.

The option ``convolution`` overrides the prediction: ``"auto"`` (default), ``"native"``, or ``"fft"`` wherever legal.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any

import torch
from torch import fx

from tzwc.errors import InvalidArgumentError
from tzwc.graph import hint, insert_call, replace_node, tensor_value
from tzwc.ops import direct_convolution, fft_convolution, hyperzzw_convolution, kernel_spectrum
from tzwc.passes.convolution_cost import Workload, choose, costs
from tzwc.passes.convolutions import Convolution, read_convolution
from tzwc.passes.shapes import Size, is_static, shape_of, static_nodes
from tzwc.pipeline import Pass, PassContext
from tzwc.rules import AliasFacts, erase_if_dead

__all__ = ["SELECT_CONVOLUTION"]

aten = torch.ops.aten
NAME = "select_convolution"
CHOICES = ("auto", "native", "fft")
_MADE_BY = f"{NAME}/fft"


def _illegal(tensors: Sequence[fx.Node]) -> str | None:
    """Why these tensors cannot be transformed."""
    for node in tensors:
        value = tensor_value(node)
        if value is None or not value.dtype.is_floating_point:
            return f"{node} is not a real floating-point tensor"
        if any(not isinstance(size, int) for size in value.shape[2:]):
            return f"the spatial sizes {list(value.shape[2:])} of {node} are not known at capture"
        if 0 in value.shape:
            return f"{node} is empty"
    return None


def _ints(sizes: Sequence[Size]) -> tuple[int, ...]:
    return tuple(hint(size) for size in sizes)


def _decide(node: fx.Node, work: Workload, context: PassContext) -> str:
    """The way to compute ``node``, with a remark."""
    predicted = costs(work)
    mode = context.options.get("convolution", "auto")
    chosen = choose(predicted) if mode == "auto" else str(mode)
    why = "cheapest by the cost model" if mode == "auto" else f"convolution={mode!r} was asked for"
    if mode == "auto" and chosen == "native":
        why = "no candidate is clearly faster"
    if chosen != "native" and not context.admits("choose", (node,)):
        return "native"
    context.remark(
        "declined" if chosen == "native" else "applied",
        "choose",
        f"{chosen} for {'×'.join(map(str, work.kernel))} taps on {'×'.join(map(str, work.lengths))}: {why}",
        (node,),
        choice=chosen,
        **{f"{name}_us": round(seconds * 1e6, 1) for name, seconds in predicted.items()},
    )
    return chosen


def _plain(call: Convolution, static: set[fx.Node], context: PassContext) -> fx.Node | None:
    """The replacement for a convolution of torch, or ``None``."""
    graph, node = call.node.graph, call.node
    value = tensor_value(call.x)
    assert value is not None
    batch, channels, *lengths = _ints(shape_of(call.x))
    work = Workload(
        device=value.device.type,
        batch=batch,
        in_channels=channels,
        out_channels=hint(shape_of(call.weight)[0]),
        groups=hint(call.group_count),
        lengths=tuple(lengths),
        kernel=call.kernel_size,
        padding=call.padding,
        stride=call.stride,
        kernel_is_static=is_static(call.weight, static),
    )
    chosen = _decide(node, work, context)
    if chosen == "native":
        return None
    common: dict[str, Any] = {"padding": call.padding, "stride": call.stride}
    if chosen != "fft":
        layout = {"groups": call.groups, "channels_last": chosen == "channels_last"}
        made_by = f"{NAME}/{chosen}"
        arguments = (call.x, call.weight, call.bias)
        return insert_call(graph, direct_convolution, arguments, common | layout, like=node, made_by=made_by)
    weight, groups = call.weight, call.groups
    if call.is_depthwise:
        shape = (-1, *call.kernel_size)
        weight = insert_call(graph, aten.reshape.default, (weight, shape), like=node, made_by=_MADE_BY)
    spectrum = insert_call(graph, kernel_spectrum, (weight, work.size), like=node, made_by=_MADE_BY)
    common |= {"kernel_size": call.kernel_size, "size": work.size}
    common |= {} if call.is_depthwise else {"groups": groups}
    return insert_call(graph, fft_convolution, (call.x, spectrum, call.bias), common, like=node, made_by=_MADE_BY)


def _per_sample(node: fx.Node, context: PassContext) -> None:
    """Rewrite a ``hyperzzw_convolution`` in place."""
    graph = node.graph
    z, kernel, *values = node.args
    assert isinstance(z, fx.Node)
    assert isinstance(kernel, fx.Node)
    product = node.kwargs.get("product")
    taps_shape = torch.broadcast_shapes(_ints(shape_of(z)), _ints(shape_of(kernel)))  # type: ignore[no-untyped-call]
    value = tensor_value(values[0])
    assert value is not None
    rows = taps_shape[0] * taps_shape[1]
    work = Workload(
        device=value.device.type,
        batch=len(values),
        in_channels=rows,
        out_channels=rows,
        groups=rows,
        lengths=_ints(shape_of(values[0])[2:]),
        kernel=tuple(taps_shape[2:]),
        padding=node.kwargs["padding"],  # type: ignore[arg-type]
        stride=(1,) * len(taps_shape[2:]),
        kernel_is_static=False,
        pads_first=True,
    )
    chosen = _decide(node, work, context)
    if chosen == "channels_last":
        node.update_kwarg("channels_last", True)
    if chosen != "fft":
        return
    with graph.inserting_before(node):
        if not isinstance(product, fx.Node):
            product = insert_call(graph, aten.mul.Tensor, (z, kernel), like=node, made_by=_MADE_BY)
        reverse: dict[str, Any] = {"reverse": not node.kwargs.get("reverse", False)}
        spectrum = insert_call(graph, kernel_spectrum, (product, work.size), reverse, like=node, made_by=_MADE_BY)
    common: dict[str, Any] = {"kernel_size": work.kernel, "size": work.size, "padding": work.padding}
    for item in list(node.users):
        with graph.inserting_before(item):
            value_node = values[item.args[1]]  # type: ignore[index]
            new = insert_call(graph, fft_convolution, (value_node, spectrum), common, like=item, made_by=_MADE_BY)
        replace_node(item, new)
        erase_if_dead(item)


def _run(module: fx.GraphModule, context: PassContext) -> None:
    mode = context.options.get("convolution", "auto")
    if mode not in CHOICES:
        raise InvalidArgumentError(f"convolution={mode!r} is unknown; choose one of {', '.join(CHOICES)}")
    graph = module.graph
    static = static_nodes(graph, context.static_slots)
    facts = AliasFacts(graph)
    for node in list(graph.nodes):
        call = read_convolution(node)
        if call is None and node.target is not hyperzzw_convolution:
            continue
        if isinstance(call, Convolution) and math.prod(call.kernel_size) == 1:
            continue  # a matrix product; there is nothing to choose
        reason = call if isinstance(call, str) else None
        if isinstance(call, Convolution) and call.is_dilated:
            reason = f"dilation {list(call.dilation)} is not 1"
        if reason is None and any(facts.is_written(n) for n in (node, *node.all_input_nodes)):
            reason = "an argument or the result shares memory that the program writes to"
        if reason is None:
            reason = _illegal([n for n in node.all_input_nodes if len(shape_of(n)) > 2])
        if reason is not None:
            context.remark("declined", "choose", f"native, since {reason}", (node,))
        elif isinstance(call, Convolution):
            with graph.inserting_before(node):
                new = _plain(call, static, context)
            if new is not None:
                replace_node(node, new)
                erase_if_dead(node)
        elif all(user.target is operator.getitem for user in node.users):
            _per_sample(node, context)


SELECT_CONVOLUTION = Pass(NAME, "Choose how to compute every convolution: native, padded first, or by FFT.", _run)
