"""Writes nodes: arguments become nodes or constants, results get fakes, origins and the regions without gradients."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx

from tzwc._torch import pytree
from tzwc._torch.fake_tensors import FakeTensorMode
from tzwc.errors import CaptureError
from tzwc.tracing.size_nodes import SymbolNodes
from tzwc.tracing.source_location import Origins
from tzwc.tracing.stand_ins import as_plain

__all__ = ["Recorder", "is_metadata", "needs_gradient"]

_REQUIRES_GRAD = "tzwc_requires_grad"


def needs_gradient(node: fx.Node) -> bool:
    """Whether the tensor that ``node`` computes would require gradients."""
    return bool(node.meta.get(_REQUIRES_GRAD))


def is_metadata(value: object) -> bool:
    """Whether ``value`` is the metadata of a node, in the graph or taken out of it."""
    return isinstance(value, dict) and _REQUIRES_GRAD in value


class Recorder:
    """A graph in the making.

    Args:
        origins: tells where an operator was called.
        fake_mode: in which operators are tried out.

    Attributes:
        graph: what was recorded so far.
        symbols: nodes for symbolic sizes.
        grad: whether gradients are recorded around the traced call.
    """

    def __init__(self, origins: Origins, fake_mode: FakeTensorMode) -> None:
        self.graph = fx.Graph()
        self.symbols = SymbolNodes(self.graph)
        self.grad = torch.is_grad_enabled()
        self._origins = origins
        self._fake_mode = fake_mode
        self._detached: dict[fx.Node, fx.Node] = {}
        # Placeholders go before it; it is erased in the end.
        self._anchor = self.graph.placeholder("tzwc_anchor")

    def placeholder(self, name: str, fake: Tensor, requires_grad: bool) -> fx.Node:
        """A new graph input, after those that were made before it."""
        with self.graph.inserting_before(self._anchor):
            node = self.graph.placeholder(name)
        node.meta["val"] = fake
        node.meta[_REQUIRES_GRAD] = requires_grad
        return node

    def finish(self, outputs: tuple[Any, ...]) -> None:
        """Let the graph return ``outputs``."""
        self.graph.output(outputs)
        self.graph.erase_node(self._anchor)

    def call(self, target: Callable[..., Any], args: Any, kwargs: Any, requires_grad: bool = False) -> fx.Node:
        """Record a call whose arguments are nodes and constants; what it gives is described by :meth:`describe`."""
        name = getattr(getattr(target, "overloadpacket", target), "__name__", None)
        node = self.graph.create_node("call_function", target, tuple(args), kwargs, name)
        node.meta.update(self._origins.here())
        node.meta[_REQUIRES_GRAD] = requires_grad
        return node

    def evaluate(self, target: Callable[..., Any], *args: Any, requires_grad: bool = False) -> fx.Node:
        """Record a call and find out on fakes what it gives."""
        node = self.call(target, args, {}, requires_grad)
        fakes = fx.node.map_arg(args, lambda n: n.meta["val"])
        with self._fake_mode:
            node.meta["val"] = target(*fakes)
        return node

    def element(self, node: fx.Node, index: int, fake: Any) -> fx.Node:
        """The result ``index`` of a call with several results."""
        element = self.graph.call_function(operator.getitem, (node, index))
        element.meta = {k: v for k, v in node.meta.items() if k != "val"}
        self.describe(element, fake, needs_gradient(node))
        return element

    def describe(self, node: fx.Node, fake: Any, requires_grad: bool) -> None:
        """Note what ``node`` computes; only floating-point tensors can require gradients."""
        node.meta["val"] = fake
        real = isinstance(fake, Tensor) and (fake.is_floating_point() or fake.is_complex())
        node.meta[_REQUIRES_GRAD] = requires_grad and (real or isinstance(fake, tuple))

    def argument(self, leaf: Any, node_of: Callable[[Tensor], fx.Node]) -> Any:
        """What stands for ``leaf`` among the arguments of a node."""
        if isinstance(leaf, Tensor):
            return self.cut(node_of(leaf))
        if isinstance(leaf, (torch.SymInt, torch.SymFloat, torch.SymBool)):
            return self.symbols.node_for(leaf)
        if isinstance(leaf, torch.Generator):
            raise CaptureError("forward draws random numbers from a generator of its own")
        return as_plain(leaf)

    def arguments(self, values: Any, node_of: Callable[[Tensor], fx.Node]) -> Any:
        """:meth:`argument` for every leaf."""
        return pytree.tree_map(lambda leaf: self.argument(leaf, node_of), values)

    def cuts(self, node: fx.Node) -> bool:
        """Whether ``node``, a view that was just made, leaves the history of gradients behind."""
        return self.grad and (node.target is torch.ops.aten.detach.default or not torch.is_grad_enabled())

    def cut(self, node: fx.Node) -> fx.Node:
        """``node``, detached in a region without gradients: the same memory, so that writes still reach it."""
        if not self.grad or torch.is_grad_enabled() or not needs_gradient(node):
            return node
        if node not in self._detached:
            self._detached[node] = self.evaluate(torch.ops.aten.detach.default, node)
        return self._detached[node]
