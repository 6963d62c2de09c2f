"""The memory behind real tensors while a module is traced: whose it is, and what was written to it.

A program may write to memory in place and read it through any view. Memory that the traced call made itself is
functionalised: a write gives the memory a new value, which is a node, and a view that is read afterwards is taken from
that value. Memory that was there before the call (parameters, buffers) keeps its in-place writes as nodes, and is put
back as it was when tracing ends.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, fx
from torch.multiprocessing.reductions import StorageWeakRef

__all__ = ["Memory", "MemoryMap"]


@dataclass(eq=False)
class Memory:
    """One storage.

    Attributes:
        fresh: made by the traced call; otherwise the program's own.
        reference: keeps the storage's address from being used again, but not its bytes.
        dynamic: something that depends on the inputs was written to it, so the real bytes mean nothing any more.
        functional: writes give a new :attr:`value`; otherwise they are nodes that write in place.
        value: all elements as a one-dimensional node; ``None`` until the first functional write.
        version: number of functional writes so far.
        first: the node that made the memory.
        cut: whether tensors with and without the history of gradients share it, as after ``detach()``.
        saved: the storage itself and a copy of what it held, once the program's own memory was written to.
    """

    fresh: bool
    reference: StorageWeakRef
    dynamic: bool = False
    functional: bool = True
    value: fx.Node | None = None
    version: int = 0
    first: fx.Node | None = None
    cut: bool = False
    saved: tuple[torch.UntypedStorage, torch.UntypedStorage] | None = None


class MemoryMap:
    """Every storage that tracing has come across."""

    def __init__(self) -> None:
        self._known: dict[int, Memory] = {}

    def of(self, tensor: Tensor, *, fresh: bool = False) -> Memory:
        """The memory of a real tensor; ``fresh`` says whose it is when it is seen for the first time."""
        reference = _reference(tensor)
        memory = self._known.get(reference.cdata)
        if memory is None:
            memory = self._known[reference.cdata] = Memory(fresh, reference, functional=fresh)
        return memory

    def is_dynamic(self, tensor: Tensor) -> bool:
        """Whether something that depends on the inputs was written to the memory of a real tensor."""
        memory = self._known.get(_reference(tensor).cdata)
        return memory is not None and memory.dynamic

    def save(self, tensor: Tensor) -> None:
        """Copy what the program's own memory holds, before it is written to for the first time."""
        memory = self.of(tensor)
        if not memory.fresh and memory.saved is None:
            storage = tensor.untyped_storage()
            memory.saved = storage, storage.clone()  # type: ignore[no-untyped-call]

    def restore(self) -> None:
        """Put the program's own memory back as it was."""
        for memory in self._known.values():
            if memory.saved is not None:
                storage, before = memory.saved
                storage.copy_(before)
                memory.saved = None


def _reference(tensor: Tensor) -> StorageWeakRef:
    return StorageWeakRef(tensor.untyped_storage())  # type: ignore[no-untyped-call]
