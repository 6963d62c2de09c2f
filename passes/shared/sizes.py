"""Questions about sizes that may be symbolic, answered without assuming anything about them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import fx
from torch.fx.experimental.symbolic_shapes import statically_known_true
from torch.fx.node import Argument

from tzwc.ir.graph import tensor_value

__all__ = ["is_static", "known_int", "same_shape", "same_size", "shape_argument", "shape_of", "static_nodes"]

Size = int | torch.SymInt
aten = torch.ops.aten


def shape_of(node: object) -> tuple[Size, ...]:
    """Sizes of the tensor that ``node`` computes; ``()`` for anything that is not one tensor."""
    value = tensor_value(node)
    return () if value is None else tuple(value.shape)


def same_size(a: Size, b: Size) -> bool:
    """Whether two sizes are provably equal for every batch."""
    if isinstance(a, int) and isinstance(b, int):
        return a == b
    return bool(statically_known_true(a == b))


def same_shape(a: Sequence[Size], b: Sequence[Size]) -> bool:
    """Whether two shapes are provably equal for every batch."""
    return len(a) == len(b) and all(same_size(x, y) for x, y in zip(a, b, strict=True))


def known_int(value: object) -> int | None:
    """``value``, or the value of the node ``value``, if it is a number known at capture."""
    if isinstance(value, fx.Node):
        value = value.meta.get("val")
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def shape_argument(graph: fx.Graph, shape: Sequence[Size], sources: Sequence[fx.Node]) -> list[Argument] | None:
    """``shape`` as an argument for ``aten.reshape``; symbolic sizes as ``-1`` or read from one of ``sources``.

    Returns:
        ``None`` when a size cannot be expressed so. ``sym_size`` calls are inserted at the graph's insertion point.
    """
    symbolic = [i for i, size in enumerate(shape) if not isinstance(size, int)]
    if len(symbolic) == 1 and 0 not in [s for s in shape if isinstance(s, int)]:
        return [size if isinstance(size, int) else -1 for size in shape]
    found: dict[int, tuple[fx.Node, int]] = {}
    for i in symbolic:
        places = ((s, d) for s in sources for d, size in enumerate(shape_of(s)) if same_size(size, shape[i]))
        place = next(places, None)
        if place is None:
            return None
        found[i] = place
    result: list[Any] = list(shape)
    for i, (source, axis) in found.items():
        node = graph.call_function(aten.sym_size.int, (source, axis))
        node.meta["val"] = shape_of(source)[axis]
        result[i] = node
    return result


def static_nodes(graph: fx.Graph, static_slots: frozenset[str]) -> set[fx.Node]:
    """The nodes that are computed from slots and constants alone."""
    static: set[fx.Node] = set()
    for node in graph.nodes:
        if node.op == "placeholder":
            known = node.name in static_slots
        else:
            known = node.op in ("get_attr", "call_function") and all(a in static for a in node.all_input_nodes)
        if known:
            static.add(node)
    return static


def is_static(node: object, static: set[fx.Node]) -> bool:
    """Whether ``node`` is a constant or one of the ``static`` nodes."""
    return node in static if isinstance(node, fx.Node) else True
