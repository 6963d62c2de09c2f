"""What is known of every tensor that tracing has come across: its node, a fake like it, whether it needs gradients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx
from torch.utils.weak import WeakTensorKeyDictionary

from tzwc._torch.fake_tensors import FakeTensor, FakeTensorMode
from tzwc._torch.tensors import negative_view, requires_grad_of
from tzwc.errors import CaptureError
from tzwc.tracing.graph_builder import Recorder, needs_gradient
from tzwc.tracing.source_location import Origins
from tzwc.tracing.storage import MemoryMap

__all__ = ["TensorTable"]


@dataclass
class _Known:
    node: fx.Node
    version: int = 0


class TensorTable:
    """Nodes and fakes by tensor.

    Args:
        recorder: of the graph.
        find_slot: gives the placeholder of a real tensor that the program holds.
        origins: tells where an operator was called.
        fake_mode: of the inputs.

    Attributes:
        memory: behind every real tensor.
    """

    def __init__(
        self,
        recorder: Recorder,
        find_slot: Callable[[Recorder, Tensor, Tensor], fx.Node],
        origins: Origins,
        fake_mode: FakeTensorMode,
    ) -> None:
        self.memory = MemoryMap()
        self._recorder = recorder
        self._find_slot = find_slot
        self._origins = origins
        self._fake_mode = fake_mode
        self._known: Any = WeakTensorKeyDictionary()
        self._fakes: Any = WeakTensorKeyDictionary()

    def bind(self, tensor: Tensor, node: fx.Node, *, fresh: bool = True) -> None:
        """Let ``node`` stand for ``tensor`` from now on; ``fresh`` when the traced call made its memory."""
        version = 0
        if not isinstance(tensor, FakeTensor):
            memory = self.memory.of(tensor, fresh=fresh)
            version = memory.version
            memory.cut |= memory.first is not None and self._recorder.cuts(node)
            memory.first = memory.first or node
        self._known[tensor] = _Known(node, version)

    def is_dynamic(self, tensor: Tensor) -> bool:
        """Whether the values of ``tensor`` depend on the inputs."""
        return isinstance(tensor, FakeTensor) or self.memory.is_dynamic(tensor)

    def node_of(self, tensor: Tensor) -> fx.Node:
        """The node that holds what ``tensor`` holds now.

        Raises:
            CaptureError: it came into being in a way that was not recorded.
        """
        known: _Known | None = self._known.get(tensor)
        if known is None:
            if isinstance(tensor, FakeTensor):
                raise CaptureError(f"a tensor of unknown origin is used at {self._origins.line()}")
            try:
                node = self._find_slot(self._recorder, tensor, self.fake_of(tensor))
            except CaptureError as error:
                raise CaptureError(f"{self._origins.line()} {error}") from None
            self.bind(tensor, node, fresh=False)
            return node
        if not isinstance(tensor, FakeTensor):
            memory = self.memory.of(tensor)
            if memory.value is not None and known.version != memory.version:
                known.node = self._view(memory.value, tensor)
                known.version = memory.version
        return known.node

    def result_of(self, tensor: Tensor) -> fx.Node:
        """:meth:`node_of`, in the memory that it shares with other tensors: a caller may write to it."""
        node = self.node_of(tensor)
        memory = None if isinstance(tensor, FakeTensor) else self.memory.of(tensor)
        if memory is None or memory.value is None:
            return node
        whole = memory.value.target is torch.ops.aten.reshape.default and node in memory.value.all_input_nodes
        if whole or memory.value in node.all_input_nodes:
            return node  # the memory's value is a view of it, or it is one of that
        return self._view(memory.value, tensor)

    def _view(self, memory: fx.Node, tensor: Tensor) -> fx.Node:
        place = list(tensor.shape), list(tensor.stride()), tensor.storage_offset()
        return self._recorder.evaluate(
            torch.ops.aten.as_strided.default, memory, *place, requires_grad=needs_gradient(memory)
        )

    def fake_of(self, tensor: Tensor) -> Tensor:
        """A fake tensor like the real ``tensor``: its values play no part."""
        if isinstance(tensor, FakeTensor):
            return tensor
        fake: Tensor | None = self._fakes.get(tensor)
        if fake is None or fake.shape != tensor.shape or fake.stride() != tensor.stride():
            with self._fake_mode:
                fake = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=tensor.device)
                if tensor.is_conj():
                    fake = fake.conj()
                if tensor.is_neg():
                    fake = negative_view(fake)
            self._fakes[tensor] = fake
        return fake

    def requires_grad(self, tensor: Tensor) -> bool:
        """Whether ``tensor`` would require gradients if autograd were on."""
        return needs_gradient(self.node_of(tensor)) if tensor in self._known else requires_grad_of(tensor)

    def rebind(self, tensor: Tensor, node: fx.Node) -> None:
        """After a write in place by ``node``, which returns its target; a detached target keeps its history."""
        if self._known[tensor].node in node.all_input_nodes:
            self._known[tensor].node = node

    def written(self, tensor: Tensor, node: fx.Node) -> None:
        """After a functional write: ``node`` is what ``tensor`` holds in the newest version of its memory."""
        self._known[tensor] = _Known(node, self.memory.of(tensor).version)

    def constant(self, tensor: Tensor) -> fx.Node:
        """The placeholder of a copy of ``tensor`` that nobody writes to."""
        return self._find_slot(self._recorder, tensor.clone(), self.fake_of(tensor))

    def alive(self) -> list[tuple[Tensor, fx.Node]]:
        """Every tensor that somebody still refers to, and its node."""
        return [(tensor, known.node) for tensor, known in list(self._known.items())]

    def containers(self) -> list[Any]:
        """What this table itself keeps fakes in."""
        return [self._fakes.data, *self._fakes.data.values()]
