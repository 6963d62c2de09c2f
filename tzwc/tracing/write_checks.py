"""In-place writes that a captured graph must not make."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, fx

from tzwc.errors import CaptureError
from tzwc.ir.graph import alias_groups, is_mutating, may_alias, mutated_arguments
from tzwc.tracing.graph_inputs import Slot

__all__ = ["refuse_shared_writes", "refuse_written_inputs"]


def refuse_written_inputs(graph: fx.Graph, inputs: Sequence[str]) -> None:
    """A graph must not write to its arguments, called ``inputs``.

    Raises:
        CaptureError: it does.
    """
    writers = [node for node in graph.nodes if is_mutating(node)]
    if not writers:
        return
    groups = alias_groups(graph)
    arguments = {groups[node]: node for node in graph.nodes if node.op == "placeholder" and node.name in inputs}
    for writer in writers:
        for written in mutated_arguments(writer):
            if (
                groups[written] in arguments
                and arguments[groups[written]].name in inputs
                and _is_view_of(written, arguments[groups[written]])
            ):
                raise CaptureError(f"{writer.target} writes to the argument {arguments[groups[written]].name!r}")


def refuse_shared_writes(graph: fx.Graph, slots: Sequence[Slot], tensors: Mapping[str, Tensor]) -> None:
    """A write to one slot must not be a write to another one, or to what the graph does not see.

    Args:
        graph: the captured graph.
        slots: its inputs that are read from the module.
        tensors: what each of them held when the traced call began, by placeholder; it may hold another one now.

    Raises:
        CaptureError: it is.
    """
    groups = alias_groups(graph)
    written = {groups[node] for writer in graph.nodes for node in mutated_arguments(writer)}
    by_name = {slot.name: slot for slot in slots}
    owners: dict[int, list[Slot]] = {}
    changed: list[Slot] = []
    for node in graph.nodes:
        if node.op == "placeholder" and node.name in by_name:
            slot = by_name[node.name]
            owners.setdefault(tensors[slot.name].untyped_storage().data_ptr(), []).append(slot)
            if groups[node] in written:
                changed.append(slot)
    for slot in changed:
        tensor = tensors[slot.name]
        if tensor.numel() and len(owners[tensor.untyped_storage().data_ptr()]) > 1:
            raise CaptureError(f"forward writes to {slot.path!r}, which shares its memory with another tensor")


def _is_view_of(node: fx.Node, root: fx.Node) -> bool:
    """Whether ``node`` reaches ``root`` through operators that may return their argument's memory."""
    pending, seen = [node], set()
    while pending:
        current = pending.pop()
        if current is root:
            return True
        if current not in seen:
            seen.add(current)
            pending.extend(may_alias(current))
    return False
