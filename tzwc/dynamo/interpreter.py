"""Runs Dynamo's graph node by node while it is traced."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx

from tzwc._torch.functorch import TRANSFORM_MODULES
from tzwc._torch.operators import HigherOrderOperator
from tzwc._torch.tensors import data_of
from tzwc.dynamo.origins import NodeOrigins
from tzwc.errors import CaptureError

__all__ = ["Runner"]

_checkpoint = torch.ops.higher_order.tag_activation_checkpoint


class Runner(fx.Interpreter):
    """An interpreter that says which node it runs, and knows what must not be run as it is.

    Args:
        module: the graph.
        origins: is told of every node.
        read_float: gives the symbolic number in a tensor that stands for a Python number.
        inherited: metadata that every node gets, such as the request to recompute it.
    """

    def __init__(
        self,
        module: fx.GraphModule,
        origins: NodeOrigins,
        read_float: Callable[[Tensor, torch.SymFloat], Any],
        inherited: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(module)
        self.extra_traceback = False
        self._origins = origins
        self._read_float = read_float
        self._inherited = inherited or {}

    def run_node(self, n: fx.Node) -> Any:
        """Run ``n`` with its origin known."""
        before = self._origins.node, self._origins.inherited
        self._origins.node, self._origins.inherited = n, self._inherited
        try:
            return super().run_node(n)
        finally:
            self._origins.node, self._origins.inherited = before

    def call_function(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run a call; checkpoints are traced into, and keep their request to be recomputed."""
        if target is _checkpoint:
            return self._recomputed(args)
        if isinstance(target, HigherOrderOperator):
            raise CaptureError(f"{self._origins.line()} calls the higher-order operator {target.__name__}")
        if target is data_of:
            return args[0].detach()
        module = f"{getattr(target, '__module__', None)}."
        if module.startswith(TRANSFORM_MODULES):
            raise CaptureError(f"{self._origins.line()} calls {getattr(target, '__name__', target)}")
        return super().call_function(target, args, kwargs)

    def call_method(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run a method; a Python float that changes from call to call is a tensor for Dynamo, read by ``item``."""
        node = self._origins.node
        value = None if node is None else node.meta.get("example_value")
        if target == "item" and isinstance(value, torch.SymFloat):
            return self._read_float(args[0], value)
        return super().call_method(target, args, kwargs)

    def _recomputed(self, args: tuple[Any, ...]) -> Any:
        body, *rest = args
        if not isinstance(body, fx.GraphModule):
            raise CaptureError(f"{self._origins.line()} checkpoints in an unknown way")
        wanted = {"recompute": torch.utils.checkpoint.CheckpointPolicy.PREFER_RECOMPUTE, "ac_graph_id": id(body)}
        return Runner(body, self._origins, self._read_float, wanted).run(*rest, enable_io_processing=False)
