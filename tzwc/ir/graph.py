"""Questions and edits on torch.fx graphs that every pass needs, in one place and typed.

Node metadata used throughout the compiler:

``val``
    what the node computes, as a ``FakeTensor``, ``SymInt`` or plain value (or a tuple of these).
``nn_module_stack``, ``stack_trace``
    origin, as written by ``torch.export``; read it with :func:`location`.
``tzwc_made_by``
    ``"pass/rule"`` for nodes that a pass made.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import fx
from torch.fx.node import Argument, Target

from tzwc._torch.dispatch import enable_python_dispatcher
from tzwc._torch.fake_tensors import FakeTensor, FakeTensorMode, detect_fake_mode
from tzwc._torch.operators import HigherOrderOperator, OpOverload
from tzwc.errors import PassError
from tzwc.ir.op_schemas import written_values
from tzwc.ir.remarks import Location

__all__ = [
    "alias_groups",
    "fake_mode_of",
    "hint",
    "infer",
    "insert_call",
    "is_mutating",
    "is_pure",
    "is_random",
    "location",
    "may_alias",
    "mutated_arguments",
    "nbytes",
    "order_placeholders",
    "remove_dead_code",
    "replace_node",
    "target_name",
    "tensor_value",
]

_FRAME = re.compile(r'File "(?P<file>[^"]+)", line (?P<line>\d+), in \S+\n?\s*(?P<code>[^\n]*)')

_TORCH = str(Path(torch.__file__).parent)


def location(node: fx.Node) -> Location:
    """The innermost module and the innermost line of user code that made ``node``."""
    stack = node.meta.get("nn_module_stack") or {}
    paths = [entry[0] for entry in stack.values() if isinstance(entry, tuple)]
    path = paths[-1] if paths and not str(paths[-1]).startswith("_empty") else ""
    frames = list(_FRAME.finditer(node.meta.get("stack_trace") or ""))
    if not frames:
        return Location(module_path=path)
    # The user's own line says more than the library function that it called.
    frame = next((f for f in reversed(frames) if not f["file"].startswith(_TORCH)), frames[-1])
    return Location(path, frame["file"], int(frame["line"]), frame["code"].strip() or None)


def tensor_value(node: object) -> FakeTensor | None:
    """The fake tensor that ``node`` stands for; ``None`` for anything that is not one tensor."""
    if isinstance(node, fx.Node):
        value = node.meta.get("val")
        if isinstance(value, FakeTensor):
            return value
    return None


def nbytes(node: fx.Node) -> int:
    """Bytes of the tensor (or of all tensors in the tuple) that ``node`` computes; symbolic sizes by their hint."""
    value = node.meta.get("val")
    tensors = value if isinstance(value, (tuple, list)) else [value]
    total = 0
    for tensor in tensors:
        if isinstance(tensor, torch.Tensor):
            total += hint(tensor.numel()) * tensor.element_size()
    return total


def hint(size: int | torch.SymInt) -> int:
    """A concrete integer for ``size``: itself, or the value seen at capture when it is symbolic."""
    if isinstance(size, int):
        return size
    return int(size.node.hint) if size.node.has_hint() else 1


def is_random(node: fx.Node) -> bool:
    """Whether ``node`` draws from a random generator."""
    if not isinstance(node.target, OpOverload):
        return False
    return torch.Tag.nondeterministic_seeded in node.target.tags


def mutated_arguments(node: fx.Node) -> list[fx.Node]:
    """The argument nodes whose tensors ``node`` writes to."""
    if not isinstance(node.target, OpOverload):
        return []
    return _nodes_in(written_values(node.target, node.args, node.kwargs))


def is_mutating(node: fx.Node) -> bool:
    """Whether ``node`` writes to one of its arguments."""
    return bool(mutated_arguments(node))


def is_pure(node: fx.Node) -> bool:
    """Whether ``node`` is a call whose only effect is its result, the same for the same arguments."""
    if node.op != "call_function":
        return False
    if isinstance(node.target, HigherOrderOperator):
        return False
    if isinstance(node.target, OpOverload):
        if node.target.namespace not in ("aten", "prims", "prim", "tzwc"):
            return False  # a custom operator may do anything
        if node.target.overloadpacket in _EFFECTFUL:
            return False
    return not is_random(node) and not is_mutating(node)


_EFFECTFUL = {
    packet
    for name in ("_assert_async", "_assert_scalar", "_assert_tensor_metadata", "sym_constrain_range", "_print")
    if (packet := getattr(torch.ops.aten, name, None)) is not None
}


def _nodes_in(value: Argument) -> list[fx.Node]:
    found: list[fx.Node] = []

    def note(node: fx.Node) -> fx.Node:
        found.append(node)
        return node

    fx.node.map_arg(value, note)
    return found


def may_alias(node: fx.Node) -> list[fx.Node]:
    """The arguments whose memory the result of ``node`` may share."""
    if node.op != "call_function":
        return []
    target = node.target
    if not isinstance(target, OpOverload):
        return list(node.all_input_nodes)  # getitem, higher-order and Python calls: assume the worst
    if target.overloadpacket in (torch.ops.aten.dropout, torch.ops.aten.feature_dropout):
        return list(node.all_input_nodes)  # returns its input outside of training
    sharing: list[fx.Node] = []
    for position, argument in enumerate(target._schema.arguments):
        if argument.alias_info is not None:
            value = node.args[position] if position < len(node.args) else node.kwargs.get(argument.name)
            sharing.extend(_nodes_in(value))
    return sharing


def alias_groups(graph: fx.Graph) -> dict[fx.Node, int]:
    """Partition the nodes so that two nodes which may share memory are in the same group.

    Conservative: operators whose schema says that they may return a view (``reshape``, ``to``) do.
    """
    parent: dict[fx.Node, fx.Node] = {node: node for node in graph.nodes}

    def find(node: fx.Node) -> fx.Node:
        while parent[node] is not node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    for node in graph.nodes:
        for other in may_alias(node):
            parent[find(node)] = find(other)
    numbers: dict[fx.Node, int] = {}
    return {node: numbers.setdefault(find(node), len(numbers)) for node in graph.nodes}


def fake_mode_of(graph: fx.Graph) -> FakeTensorMode | None:
    """The fake-tensor mode behind the ``val`` of the graph's nodes; ``None`` when no node has a tensor."""
    value = next((v for node in graph.nodes if (v := tensor_value(node)) is not None), None)
    mode = detect_fake_mode([value])
    return mode if isinstance(mode, FakeTensorMode) else None


def insert_call(
    graph: fx.Graph,
    target: Callable[..., Any],
    args: Sequence[Argument],
    kwargs: dict[str, Argument] | None = None,
    *,
    like: fx.Node,
    made_by: str,
) -> fx.Node:
    """Insert ``target(*args, **kwargs)`` at the graph's insertion point, with origin and shape filled in.

    Args:
        like: the node whose origin (module path, source line) the new one inherits.
        made_by: ``"pass/rule"``.

    Raises:
        PassError: the call does not accept arguments of these shapes.
    """
    node = graph.call_function(target, tuple(args), kwargs or {})
    for key in ("nn_module_stack", "stack_trace"):
        if key in like.meta:
            node.meta[key] = like.meta[key]
    node.meta["tzwc_made_by"] = made_by
    node.meta["val"] = infer(node)
    return node


def infer(node: fx.Node) -> Any:
    """Evaluate the call ``node`` on the fake values of its arguments."""
    mode = fake_mode_of(node.graph)
    args, kwargs = fx.node.map_arg((node.args, node.kwargs), lambda n: n.meta["val"])
    assert callable(node.target)
    try:
        # Shapes are asked for, not derivatives: recording a graph on fake tensors would only cost time. Without the
        # Python dispatcher, operators written in C++ (padding, FFT) would fix the symbolic sizes that they ask for.
        with torch.no_grad(), enable_python_dispatcher(), mode if mode is not None else nullcontext():
            return node.target(*args, **kwargs)
    except Exception as error:
        raise PassError(f"{node.meta.get('tzwc_made_by')}: {node.target} rejects its arguments: {error}") from error


def replace_node(old: fx.Node, new: fx.Node) -> None:
    """Let every user of ``old`` use ``new``; ``old`` is left to dead-code elimination.

    Raises:
        PassError: shapes, dtypes or devices differ, so the rewrite would change the program.
    """
    before, after = old.meta.get("val"), new.meta.get("val")
    for a, b in zip(_flat(before), _flat(after), strict=True):
        if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
            same = a.dtype == b.dtype and a.device == b.device and _same_shape(a.shape, b.shape)
            if not same:
                raise PassError(
                    f"{new.meta.get('tzwc_made_by')}: {old.name} is {a.dtype}{list(a.shape)} on {a.device}, "
                    f"its replacement {new.name} is {b.dtype}{list(b.shape)} on {b.device}"
                )
    old.replace_all_uses_with(new)


def _flat(value: object) -> Iterator[object]:
    if isinstance(value, (tuple, list)):
        yield from value
    else:
        yield value


def _same_shape(a: Sequence[Any], b: Sequence[Any]) -> bool:
    return len(a) == len(b) and all(hint(x) == hint(y) for x, y in zip(a, b, strict=True))


def target_name(target: Target) -> str:
    """A short, stable name for a call target: ``aten.mul.Tensor``, ``tzwc.ops.fft_convolution``."""
    if isinstance(target, str):
        return target
    if isinstance(target, OpOverload):
        return str(target)
    module = getattr(target, "__module__", "")
    name = getattr(target, "__qualname__", repr(target))
    return f"{module}.{name}" if module and module != "builtins" else name


def remove_dead_code(graph: fx.Graph) -> None:
    """Remove calls without users and without effects; placeholders stay, since callers count on their order."""
    for node in reversed(list(graph.nodes)):
        if node.op in ("call_function", "get_attr") and not node.users and (node.op == "get_attr" or is_pure(node)):
            graph.erase_node(node)


def order_placeholders(graph: fx.Graph, names: Sequence[str]) -> None:
    """Put the placeholders called ``names`` first, in this order, and let generated code call them so."""
    placeholders = {n.name: n for n in graph.nodes if n.op == "placeholder"}
    anchor = next(iter(graph.nodes))
    for name in names:
        node = placeholders[name]
        node.target = name
        if node is anchor:
            anchor = anchor.next
        else:
            anchor.prepend(node)
