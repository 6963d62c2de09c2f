"""The watches in Python: the fallback where nothing can be compiled, and what the native ones are tested against."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from operator import is_
from typing import Any

import torch
from torch import Tensor

from tzwc.native.tensor_record import (
    PLAIN_TYPES,
    describe_other,
    is_plain,
    is_wrapper,
    layout_of,
    other_storage,
    pointer_of,
    raw_view,
    version_of,
)

__all__ = ["PythonDictWatch", "PythonTensorWatch", "Record", "check_tensors"]


def check_tensors(tensors: Sequence[Tensor]) -> None:
    """Raise TypeError, with the position, for the first entry that is not a tensor."""
    for position, tensor in enumerate(tensors):
        if not isinstance(tensor, Tensor):
            raise TypeError(f"entry {position} is not a tensor but {type(tensor).__name__}")


@dataclass(frozen=True, slots=True)
class Record:
    """One tensor as it was. What is not to be compared is None."""

    plain: bool
    layout: tuple[object, ...]
    tensor: Tensor | None = None
    version: int = -1
    pointer: int = 0
    storage: torch.UntypedStorage | None = None
    size: int = 0  # of the storage, in bytes
    view: Tensor | None = None
    bits: Tensor | None = None

    @staticmethod
    def of(tensor: Tensor, content: bool, compare_bytes: bool) -> Record:
        identity = tensor if content else None
        if not is_plain(tensor):
            # Described first, as versions are below: what is written in between shows as a change.
            description = describe_other(tensor, content)
            return Record(False, description, identity, storage=other_storage(tensor) if content else None)
        version = version_of(tensor) if content else -1
        view = raw_view(tensor) if compare_bytes and tensor.device.type == "cpu" else None
        bits = None if view is None else view.clone()
        layout = layout_of(tensor)
        if not content:
            return Record(True, layout, bits=bits)
        storage = tensor.untyped_storage()
        return Record(True, layout, tensor, version, pointer_of(tensor), storage, storage.nbytes(), view, bits)

    def differs(self, tensor: Tensor) -> bool:
        content = self.tensor is not None
        if content and tensor is not self.tensor:
            return True
        if not self.plain:
            return is_plain(tensor) or describe_other(tensor, content) != self.layout
        # The tensor that was recorded can hardly have become another kind; one that came in its place can.
        if type(tensor) not in PLAIN_TYPES or (not content and is_wrapper(tensor)):
            return True
        try:
            if content and (version_of(tensor) != self.version or pointer_of(tensor) != self.pointer):
                return True
            if layout_of(tensor) != self.layout:
                return True
        except (RuntimeError, NotImplementedError):
            return True  # it has no strides or no memory now
        if self.bits is None:
            return False
        view = self._view(tensor)
        return view is None or not torch.equal(view, self.bits)

    def _view(self, tensor: Tensor) -> Tensor | None:
        """The bits of a tensor with the recorded layout and pointer."""
        view, storage = self.view, self.storage
        # Making views takes longest. The recorded one serves, unless what it shows has since been moved or cut short.
        if view is None or storage is None or view.data_ptr() != self.pointer or storage.nbytes() != self.size:
            return raw_view(tensor)
        return view


class PythonTensorWatch:
    """See :func:`tzwc.native.watch_tensors`. About 3 µs per tensor, and the time to read its bytes."""

    def __init__(self, tensors: Sequence[Tensor], content: bool, compare_bytes: bool) -> None:
        check_tensors(tensors)
        self._records = [Record.of(tensor, content, compare_bytes) for tensor in tensors]

    def changed(self, tensors: Sequence[Tensor]) -> list[int]:
        """Indices of the tensors that differ from those recorded."""
        if len(tensors) != len(self._records):
            raise ValueError(f"{len(self._records)} tensors are watched, {len(tensors)} were given")
        check_tensors(tensors)
        return [i for i, (r, t) in enumerate(zip(self._records, tensors, strict=True)) if r.differs(t)]


class PythonDictWatch:
    """See :func:`tzwc.native.watch_dicts`. Keeps keys and values alive; about 50 ns per entry."""

    def __init__(self, dicts: Sequence[dict[Any, Any]]) -> None:
        for position, candidate in enumerate(dicts):
            if not isinstance(candidate, dict):
                raise TypeError(f"entry {position} is not a dict but {type(candidate).__name__}")
        # An OrderedDict keeps an order of its own beside that of the dict it is, and only its own methods tell it.
        self._plain = [d for d in dicts if not isinstance(d, OrderedDict)]
        self._ordered = [d for d in dicts if isinstance(d, OrderedDict)]
        self._lengths = self._lengths_now()
        self._entries = list(self._entries_now())

    def changed(self) -> bool:
        """Whether any dict may have changed."""
        # Lengths first: with these equal, the flat sequences of entries align.
        return self._lengths_now() != self._lengths or not all(map(is_, self._entries_now(), self._entries))

    def _lengths_now(self) -> list[int]:
        return list(map(dict.__len__, chain(self._plain, self._ordered)))

    def _entries_now(self) -> Iterable[Any]:
        flat = chain.from_iterable
        return chain(
            flat(map(dict.keys, self._plain)),
            flat(map(dict.values, self._plain)),
            flat(map(OrderedDict.keys, self._ordered)),
            flat(map(OrderedDict.values, self._ordered)),
        )
