"""The tensors that a module holds, wherever they hang, and the graph inputs that read them at every call."""

from __future__ import annotations

import builtins
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor, fx, nn

from tzwc._torch.tensors import is_leaf_of, requires_grad_of
from tzwc.errors import CaptureError
from tzwc.tracing.graph_builder import Recorder

__all__ = ["Slot", "SlotTable", "placeholder_name"]

SlotKind = Literal["parameter", "buffer", "attribute", "parametrized", "constant"]


@dataclass(frozen=True, eq=False)
class Slot:
    """A graph input that is read from the live module at every call.

    Attributes:
        name: its placeholder in the graph.
        kind: ``parameter`` or ``buffer`` of the module, a tensor ``attribute``,
            a ``parametrized`` weight that PyTorch caches, or a ``constant`` of the program text.
        path: dotted name in the module (``blocks.0.weight``).
        container, key: the tensor is ``container[key]``; the container belongs to the live module.
    """

    name: str
    kind: SlotKind
    path: str
    container: Any = field(repr=False)
    key: Any = field(repr=False)

    def fetch(self) -> Tensor:
        """The tensor that the slot holds now."""
        tensor: Tensor = self.container[self.key]
        return tensor


class SlotTable:
    """Makes slots for the tensors that a traced module uses.

    Attributes:
        slots: made so far, in the order of their placeholders.
        tensors: what each of them held when it was made, by placeholder.
    """

    def __init__(self, module: nn.Module) -> None:
        self.slots: list[Slot] = []
        self.tensors: dict[str, Tensor] = {}
        self._places: dict[int, tuple[SlotKind, str, Any, Any]] = {}
        # The program may replace them while it is traced: no other tensor may get the identity of one of these then.
        self._held: list[Tensor] = []
        for kind, path, container, key in _tensors_of(module):
            self._held.append(container[key])
            self._places.setdefault(id(container[key]), (kind, path, container, key))

    def identities(self) -> frozenset[int]:
        """Of the tensors that the module holds, and of constants."""
        return frozenset(self._places)

    def place(self, tensor: Tensor, kind: SlotKind, path: str, container: Any, key: Any) -> None:
        """Let ``tensor`` be read from ``container[key]``, unless the module is known to hold it elsewhere."""
        self._places.setdefault(id(tensor), (kind, path, container, key))

    def find(self, recorder: Recorder, tensor: Tensor, fake: Tensor) -> fx.Node:
        """The placeholder for ``tensor``; one that the module does not hold becomes a constant.

        Raises:
            CaptureError: it has a history of gradients, which a constant would keep for good.
        """
        kind, path, container, key = self._places.get(id(tensor)) or (
            "constant",
            f"constant{len(self.slots)}",
            {0: tensor},
            0,
        )
        if kind == "constant" and not is_leaf_of(tensor):
            raise CaptureError(
                "uses a tensor that the module does not hold and that has a history of gradients (Tensor.grad_fn)"
            )
        # The container of a constant keeps it alive, so that no other tensor can get its identity.
        self._places[id(tensor)] = kind, path, container, key
        prefix = {"parameter": "p", "buffer": "b", "attribute": "a", "parametrized": "w", "constant": "c"}[kind]
        node = recorder.placeholder(placeholder_name(f"{prefix}_{path}"), fake, requires_grad_of(tensor))
        self.slots.append(Slot(node.name, kind, path, container, key))
        self.tensors[node.name] = tensor
        return node


def placeholder_name(text: str) -> str:
    """A name that survives a copy of the graph and shadows nothing that generated code refers to."""
    name = re.sub(r"\W+", "_", text).strip("_")
    if not name or name[0].isdigit():
        name = f"input_{name}"
    taken = hasattr(builtins, name) or name in _TAKEN or _KEPT.fullmatch(name)
    return f"{name}_argument" if taken else name


_TAKEN = {"torch", "device", "inf", "nan", "NoneType", "fx_pytree", "pytree", "self"}
_KEPT = re.compile(r"kept_\d+")  # what the split calls kept values


def _tensors_of(module: nn.Module) -> Iterator[tuple[SlotKind, str, Any, Any]]:
    """Parameters, buffers, then what hangs on other attributes: kind, dotted name, container and key."""
    named = list(module.named_modules())
    for path, child in named:
        for name, parameter in child._parameters.items():
            if parameter is not None:
                yield "parameter", f"{path}.{name}".lstrip("."), child._parameters, name
    for path, child in named:
        for name, buffer in child._buffers.items():
            if buffer is not None:
                yield "buffer", f"{path}.{name}".lstrip("."), child._buffers, name
    seen: set[int] = set()
    for path, child in named:
        for name, value in list(child.__dict__.items()):
            if name not in ("_parameters", "_buffers", "_modules"):
                yield from _inside(f"{path}.{name}".lstrip("."), child.__dict__, name, value, seen)


def _inside(
    path: str, container: Any, key: Any, value: Any, seen: set[int]
) -> Iterator[tuple[SlotKind, str, Any, Any]]:
    if isinstance(value, Tensor):
        yield "attribute", path, container, key
        return
    if isinstance(value, (nn.Module, type)) or id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, (list, tuple)):
        for index, entry in enumerate(value):
            yield from _inside(f"{path}[{index}]", value, index, entry, seen)
    elif isinstance(value, dict):
        for name, entry in list(value.items()):
            yield from _inside(f"{path}[{name!r}]", value, name, entry, seen)
    elif isinstance(getattr(value, "__dict__", None), dict) and not callable(value) and not _is_library(value):
        for name, entry in list(value.__dict__.items()):
            yield from _inside(f"{path}.{name}", value.__dict__, name, entry, seen)


def _is_library(value: Any) -> bool:
    return type(value).__module__.partition(".")[0] in ("torch", "builtins", "collections", "weakref")
