"""Results as flat lists: pytrees, and dataclasses, which PyTorch's pytrees take for leaves."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch

from tzwc._torch import pytree

__all__ = ["flatten_result", "unflatten_result"]


@dataclasses.dataclass
class _Record:
    """The fields of a dataclass instance."""

    kind: type
    fields: list[Any]


pytree.register_pytree_node(
    _Record,
    lambda record: (record.fields, record.kind),
    lambda fields, kind: _Record(kind, list(fields)),
)


def flatten_result(result: Any) -> tuple[list[Any], pytree.TreeSpec]:
    """The leaves of ``result``, and how they are put together."""
    return pytree.tree_flatten(_to_records(result))


def unflatten_result(leaves: Sequence[Any], spec: pytree.TreeSpec) -> Any:
    """The opposite of :func:`flatten_result`; constructors of dataclasses are not run."""
    result = pytree.tree_unflatten(list(leaves), spec)
    if _Record in _kinds(spec):
        return _from_records(result)
    return result


def _kinds(spec: pytree.TreeSpec) -> set[Any]:
    found = {spec.type}
    for child in spec.children():
        found |= _kinds(child)
    return found


def _to_records(value: Any) -> Any:
    def convert(leaf: Any) -> Any:
        if isinstance(leaf, torch.Size):
            return _Record(torch.Size, list(leaf))
        if _is_record(leaf):
            return _Record(type(leaf), [_to_records(getattr(leaf, f.name)) for f in dataclasses.fields(leaf)])
        return leaf

    return pytree.tree_map(convert, value, is_leaf=lambda leaf: isinstance(leaf, torch.Size))


def _is_record(leaf: Any) -> bool:
    """Whether ``leaf`` is a dataclass instance that consists of its fields and nothing else."""
    if not dataclasses.is_dataclass(leaf) or isinstance(leaf, (type, dict, list, tuple, set)):
        return False
    return vars(leaf).keys() == {f.name for f in dataclasses.fields(leaf)} if hasattr(leaf, "__dict__") else True


def _from_records(value: Any) -> Any:
    def convert(leaf: Any) -> Any:
        if not isinstance(leaf, _Record):
            return leaf
        if leaf.kind is torch.Size:
            return torch.Size(leaf.fields)
        instance: Any = object.__new__(leaf.kind)
        for field, content in zip(dataclasses.fields(leaf.kind), leaf.fields, strict=True):
            object.__setattr__(instance, field.name, _from_records(content))
        return instance

    return pytree.tree_map(convert, value, is_leaf=lambda leaf: isinstance(leaf, _Record))
