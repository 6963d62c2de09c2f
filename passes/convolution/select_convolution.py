"""Choose for every convolution, and for each of its gradients, how to compute it.

The candidates are the algorithms of :mod:`tzwc.ops.conv`; each says itself whether it is legal, and
:func:`tzwc.autotune.choose` predicts or measures which is the fastest at the sizes seen at capture. Padding of the
input (zeros or periods) and reversed taps become part of the convolution, so that an algorithm can do better than write
them out. A kernel that does not depend on the input becomes two calls, ``prepare_kernel`` and ``prepared_convolution``,
so that a later pass can keep its spectrum or matrix. On a GPU, several values that share their kernels become one batch
(:mod:`tzwc.passes.convolution.stacked_values`).

Options: ``convolution`` (``"auto"``, or the name of an algorithm, taken wherever it is legal), ``tune``, ``exact``.
"""

from __future__ import annotations

import math
import operator
from typing import Any

import torch
from torch import fx

from tzwc.errors import InvalidArgumentError
from tzwc.ir.graph import hint, insert_call, replace_node, tensor_value
from tzwc.ops import convolution, hyperzzw_convolution, prepare_kernel, prepared_convolution
from tzwc.ops.conv import Problem
from tzwc.passes.convolution.convolution_calls import Convolution, absorb, read_convolution
from tzwc.passes.convolution.convolution_choice import decide, padded_first
from tzwc.passes.convolution.stacked_values import stack_values
from tzwc.passes.shared.sizes import Size, is_static, shape_of, static_nodes
from tzwc.rewrite.pass_manager import Pass, PassContext
from tzwc.rewrite.rules import AliasFacts, erase_if_dead

__all__ = ["SELECT_CONVOLUTION"]

aten = torch.ops.aten
NAME = "select_convolution"


def _unknown(nodes: list[fx.Node]) -> str | None:
    """Why nothing can be chosen for tensors like these."""
    for node in nodes:
        value = tensor_value(node)
        if value is None or not value.dtype.is_floating_point:
            return f"{node} is not a real floating-point tensor"
        if any(not isinstance(size, int) for size in value.shape[2:]):
            return f"the spatial sizes {list(value.shape[2:])} of {node} are not known at capture"
        if 0 in value.shape:
            return f"{node} is empty"
    return None


def _ints(sizes: tuple[Size, ...]) -> tuple[int, ...]:
    return tuple(hint(size) for size in sizes)


def _is_channels_last(node: fx.Node) -> bool:
    value = tensor_value(node)
    if value is None or value.dim() not in (4, 5) or value.is_contiguous():
        return False
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    return value.is_contiguous(memory_format=formats[value.dim()])


class _Rewriter:
    """Rewrites the convolutions of one graph."""

    def __init__(self, graph: fx.Graph, context: PassContext) -> None:
        self.graph = graph
        self.context = context
        self.static = static_nodes(graph, context.static_slots)
        self.grad = bool(context.options.get("grad", False))

    def insert(self, target: Any, *args: Any, like: fx.Node, **kwargs: Any) -> fx.Node:
        return insert_call(self.graph, target, args, kwargs, like=like, made_by=f"{NAME}/choose")

    # --- a convolution of torch ---------------------------------------------------------------------------------------

    def plain(self, call: Convolution, absorbed: Convolution) -> None:
        per_sample = not isinstance(call.group_count, int)
        problem = self._problem(absorbed, per_sample=per_sample)
        if isinstance(problem, str):
            self.context.remark("declined", "choose", f"native, since {problem}", (call.node,))
            return
        written = absorbed.x is not call.x  # the graph pads in advance
        unchanged = padded_first(problem) if written else "native"
        gradients = self.grad and not problem.static_kernel
        chosen = decide(problem, call.node, self.context, unchanged=unchanged, gradients=gradients)
        if chosen is None:
            return
        with self.graph.inserting_before(call.node):
            new = self._convolution(absorbed, problem, chosen, per_sample=per_sample)
        replace_node(call.node, new)
        erase_if_dead(call.node)

    def _problem(self, call: Convolution, *, per_sample: bool) -> Problem | str:
        value = tensor_value(call.x)
        assert value is not None
        batch, channels, *lengths = _ints(shape_of(call.x))
        filters = hint(shape_of(call.weight)[0])
        if per_sample:  # one image, whose channels are the samples and channels of the program
            if not (call.is_depthwise and shape_of(call.x)[0] == 1):
                return f"the number of groups, {call.group_count}, is not known at capture"
            if call.bias is not None:
                return "there is a bias for every sample"
            batch, channels, filters = channels, 1, 1
        try:
            return Problem(
                batch=batch,
                in_channels=channels,
                out_channels=filters,
                groups=1 if per_sample else hint(call.group_count),
                lengths=tuple(lengths),
                kernel=call.kernel_size,
                padding=call.padding,
                padding_mode=call.padding_mode,
                stride=call.stride,
                dilation=call.dilation,
                flip=call.flip,
                per_sample=per_sample,
                static_kernel=is_static(call.weight, self.static),
                channels_last=_is_channels_last(call.x),
                dtype=value.dtype,
                device=value.device.type,
            )
        except InvalidArgumentError as error:
            return str(error)

    def _convolution(self, call: Convolution, problem: Problem, chosen: dict[str, str], *, per_sample: bool) -> fx.Node:
        x, weight, like = call.x, call.weight, call.node
        if per_sample:
            x, weight = (
                self.insert(aten.reshape.default, node, [-1, 1, *sizes], like=like)
                for node, sizes in ((x, problem.lengths), (weight, problem.kernel))
            )
        new = self._call(x, weight, call.bias, problem, chosen, like)
        return self.insert(aten.reshape.default, new, [1, -1, *problem.out], like=like) if per_sample else new

    def _call(
        self, x: fx.Node, kernel: fx.Node, bias: fx.Node | None, problem: Problem, chosen: dict[str, str], like: fx.Node
    ) -> fx.Node:
        sizes = problem.keywords()
        if not problem.static_kernel:
            return self.insert(convolution, x, kernel, bias, like=like, **sizes, **chosen)
        sizes |= {"lengths": problem.lengths, "algorithm": chosen["algorithm"]}
        prepared = self.insert(prepare_kernel, kernel, like=like, **sizes)
        del sizes["lengths"]
        sizes |= {"kernel_size": problem.kernel, "out_channels": problem.out_channels}
        return self.insert(prepared_convolution, x, prepared, bias, like=like, **sizes)

    # --- HyperZ·Z·W ---------------------------------------------------------------------------------------------------

    def hyperzzw(self, node: fx.Node) -> None:
        z, kernel, *values = node.args
        assert isinstance(z, fx.Node)
        assert isinstance(kernel, fx.Node)
        product = node.kwargs.get("product")
        shape = torch.broadcast_shapes(_ints(shape_of(z)), _ints(shape_of(kernel)))  # type: ignore[no-untyped-call]
        value = tensor_value(values[0])
        assert value is not None
        padding: Any = node.kwargs["padding"]
        problem = Problem(
            batch=shape[0],
            in_channels=shape[1],
            out_channels=shape[1],
            groups=shape[1],
            lengths=_ints(shape_of(values[0])[2:]),
            kernel=tuple(shape[2:]),
            padding=tuple(padding),
            flip=bool(node.kwargs.get("reverse", False)),
            per_sample=True,
            dtype=value.dtype,
            device=value.device.type,
        )
        if stack_values(node, problem, self.context, self.static):
            return
        unchanged = padded_first(problem)
        chosen = decide(problem, node, self.context, unchanged=unchanged, gradients=self.grad)
        if chosen is None:
            return
        with self.graph.inserting_before(node):
            if not isinstance(product, fx.Node):
                product = self.insert(aten.mul.Tensor, z, kernel, like=node)
            # Several values share what is made of the kernel, except where its gradient has an algorithm of its own.
            shared = len(values) > 1 and not self.grad
            sizes = problem.keywords()
            if shared:
                sizes |= {"algorithm": chosen["algorithm"]}
                taps = self.insert(prepare_kernel, product, lengths=problem.lengths, like=node, **sizes)
        for item in list(node.users):
            with self.graph.inserting_before(item):
                position = item.args[1]
                assert isinstance(position, int)
                source = values[position]
                if shared:
                    more = {"kernel_size": problem.kernel, "out_channels": problem.out_channels}
                    new = self.insert(prepared_convolution, source, taps, None, like=item, **sizes, **more)
                else:
                    new = self.insert(convolution, source, product, None, like=item, **sizes, **chosen)
            replace_node(item, new)
            erase_if_dead(item)


def _run(module: fx.GraphModule, context: PassContext) -> None:
    graph = module.graph
    rewriter = _Rewriter(graph, context)
    facts = AliasFacts(graph)
    for node in list(graph.nodes):
        call = read_convolution(node)
        if call is None and node.target is not hyperzzw_convolution:
            continue
        if isinstance(call, Convolution) and math.prod(call.kernel_size) == 1:
            continue  # a matrix product; there is nothing to choose
        reason = call if isinstance(call, str) else None
        absorbed = absorb(call) if isinstance(call, Convolution) else None
        involved = [node, *node.all_input_nodes]
        involved += [] if absorbed is None else [absorbed.x, absorbed.weight]
        if reason is None and any(map(facts.is_written, involved)):
            reason = "an argument or the result shares memory that the program writes to"
        if reason is None:
            reason = _unknown([n for n in involved[1:] if len(shape_of(n)) > 2])
        if reason is not None:
            context.remark("declined", "choose", f"native, since {reason}", (node,))
        elif isinstance(call, Convolution) and absorbed is not None:
            rewriter.plain(call, absorbed)
        elif all(user.target is operator.getitem for user in node.users):
            rewriter.hyperzzw(node)


SELECT_CONVOLUTION = Pass(NAME, "Choose how to compute every convolution and its gradients.", _run)
