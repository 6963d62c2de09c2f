"""What the rules of ``merge_parallel`` share: which maps may be merged, and what that saves by the cost model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence, Set

import torch
from torch import fx
from torch.fx.node import Argument

from tzwc._torch.operators import HigherOrderOperator, OpOverload
from tzwc.ir.graph import insert_call, may_alias, nbytes, tensor_value
from tzwc.ir.roofline import is_view, machine_of
from tzwc.passes.pointwise.linear_maps import Pointwise, feeds_periodic, read_pointwise, written_to
from tzwc.passes.shared.ordering import Ancestors
from tzwc.passes.shared.sizes import is_static, static_nodes
from tzwc.rewrite.pass_manager import PassContext
from tzwc.rewrite.rules import AliasFacts

__all__ = ["DEVICES", "Maps", "copies", "is_copied", "part_objection"]

aten = torch.ops.aten

NAME = "merge_parallel"
DEVICES = ("cuda",)
"""Where starting a kernel takes long."""

_DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)  # sums are as long as before
# A copy costs more than the model says, and a launch less: small copies reach half of the bandwidth, and in a full
# queue or a CUDA graph a kernel starts within a microsecond instead of four.
_SURCHARGE = 8
_BACKWARD = 2  # a map's two gradients, each again a product that reads or writes what the map does

# Calls that work, or mean what they do, for some strides only.
_OF_A_LAYOUT = {aten.as_strided.default, aten.view.default, aten.view.dtype, aten._unsafe_view.default}
_OF_A_LAYOUT |= {aten.view_as_complex.default}
_REDUCTIONS = {aten.instance_norm.default, aten.batch_norm.default, aten.layer_norm.default, aten.group_norm.default}
_REDUCTIONS |= {aten.softmax.int}
_KNOWN = ("aten", "prims", "prim", "tzwc")


class Maps:
    """The linear maps of a graph over channels.

    Args:
        graph: of the pass.
        context: of the pass.
    """

    def __init__(self, graph: fx.Graph, context: PassContext) -> None:
        self.graph = graph
        self.context = context
        self.static = static_nodes(graph, context.static_slots)
        self.facts = AliasFacts(graph)
        self._above: Ancestors | None = None

    def read(self, node: object) -> Pointwise | None:
        """``node`` as a map that runs at every call; ``None`` for anything else."""
        call = read_pointwise(node, _DTYPES)
        return call if isinstance(call, Pointwise) and call.node not in self.static else None

    def __iter__(self) -> Iterator[Pointwise]:
        return (call for node in self.graph.nodes if (call := self.read(node)) is not None)

    def free(self, rule: str, calls: Iterable[Pointwise]) -> list[Pointwise]:
        """Those of ``calls`` that may become a part of something else; a remark for each of the others."""
        found = []
        for call in filter(None, (self.read(call.node) for call in calls)):  # its input may have been replaced
            reason = self.objection(call) or part_objection(call.node, self.facts)
            if reason is None:
                found.append(call)
            else:
                self.decline(rule, reason, [call.node])
        return found

    def objection(self, call: Pointwise) -> str | None:
        """Why ``call`` must be computed as it is."""
        if feeds_periodic(call.node):
            return f"{call.node} is the argument of a sine or cosine, which would make another rounding of it visible"
        return written_to(self.facts, call.node)

    def served(self, rule: str, calls: Sequence[Pointwise]) -> bool:
        """Whether ``calls`` are on a device where merging can pay; a remark when not."""
        value = tensor_value(calls[0].node)
        assert value is not None
        if value.device.type in DEVICES:
            return True
        reason = f"{len(calls)} maps are on {value.device.type}, where each of them starts at no cost"
        return self.decline(rule, reason, [call.node for call in calls])

    def apart(self, calls: Sequence[Pointwise]) -> list[Pointwise]:
        """The first of ``calls``, and those after it that need no result of one that was taken."""
        if self._above is None:
            self._above = Ancestors(self.graph)
        taken: list[Pointwise] = []
        for call in calls:
            if not any(self._above.is_ancestor(other.node, call.node) for other in taken):
                taken.append(call)
        return taken

    def worth(self, rule: str, calls: Sequence[Pointwise], launches: int, traffic: int) -> bool:
        """Whether to merge ``calls``; a remark when not.

        Args:
            launches: that the device does without, once weights are together.
            traffic: bytes less that it moves, negative when these are more.
        """
        nodes = [call.node for call in calls]
        machine = machine_of(nodes[0])
        operands = [n for call in calls for n in (call.weight, call.bias) if n is not None]
        times = 1 + _BACKWARD * bool(self.context.options.get("grad"))
        if not all(is_static(n, self.static) for n in operands):
            # Weights and biases are put together at every call.
            launches -= 1 + any(call.bias is not None for call in calls)
            traffic -= 2 * sum(map(nbytes, operands))
        saved = times * (launches * machine.launch + traffic * (_SURCHARGE if traffic < 0 else 1) / machine.bandwidth)
        if saved <= 0:
            return self.decline(
                rule, f"merging {len(calls)} maps costs {-saved * 1e6:.1f} µs more than it saves", nodes
            )
        return self.context.admits(rule, nodes)

    def decline(self, rule: str, reason: str, nodes: Sequence[fx.Node]) -> bool:
        """Say why ``nodes`` stay; returns ``False``."""
        self.context.remark("declined", rule, reason, nodes)
        return False

    def changed(self) -> None:
        """To be called when maps were merged: what depends on what is another question then."""
        self._above = None

    def inserter(self, rule: str, like: fx.Node) -> Callable[..., fx.Node]:
        """``insert(target, *arguments)`` for calls at the graph's insertion point, with the origin of ``like``."""

        def insert(target: Callable[..., object], *arguments: Argument) -> fx.Node:
            node = insert_call(self.graph, target, arguments, like=like, made_by=f"{NAME}/{rule}")
            if self.static.issuperset(node.all_input_nodes):
                self.static.add(node)
            return node

        return insert


def part_objection(node: fx.Node, facts: AliasFacts) -> str | None:
    """Why the result of ``node`` must not become a part of a larger tensor."""
    if facts.is_returned(node):
        return f"{node} may be returned, and the caller would hold on to a larger tensor"
    seen, pending = {node}, [node]
    while pending:
        current = pending.pop()
        for user in current.users:
            if _counts_on_layout(user):
                return f"{user} reads {current} and may count on its layout"
            if user not in seen and current in may_alias(user):
                seen.add(user)
                pending.append(user)
    return None


def _counts_on_layout(user: fx.Node) -> bool:
    target = user.target
    if isinstance(target, OpOverload):
        return target in _OF_A_LAYOUT or target.namespace not in _KNOWN
    return isinstance(target, HigherOrderOperator)


def copies(pieces: Sequence[fx.Node], static: Set[fx.Node]) -> tuple[int, int]:
    """Kernels started and bytes moved to put ``pieces`` next to each other in memory.

    What generated code computes element by element it writes where it belongs. What a library computed, or what is
    there already under another name, is copied, all by one kernel. What follows a reduction is computed in the kernel
    of that, and once more in one of its own.
    """
    kinds = [_kind(piece, static) for piece in pieces]
    moved = sum(2 * nbytes(piece) for piece, kind in zip(pieces, kinds, strict=True) if kind != "elementwise")
    return kinds.count("reduced") + ("memory" in kinds), moved


def is_copied(piece: fx.Node, static: Set[fx.Node]) -> bool:
    """Whether ``piece`` is in memory already, so that it is copied where it is put next to others."""
    return _kind(piece, static) == "memory"


def _kind(node: fx.Node, static: Set[fx.Node]) -> str:
    found, seen, pending = "memory", {node}, [node]
    while pending:
        current = pending.pop()
        tags = current.target.tags if isinstance(current.target, OpOverload) else ()
        if current.target in _REDUCTIONS or torch.Tag.reduction in tags:
            return "reduced"
        if torch.Tag.pointwise in tags:
            found = "elementwise"
        elif not is_view(current):
            continue
        pending += [n for n in current.all_input_nodes if n not in seen and n not in static]
        seen.update(current.all_input_nodes)
    return found
