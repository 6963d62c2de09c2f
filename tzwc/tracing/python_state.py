"""The Python state that hangs off a module: looked at before a capture, compared and put back after one."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from tzwc.errors import CaptureError
from tzwc.util.equality import same

__all__ = ["Change", "PythonState", "refuse_unfaithful"]

_ORDINARY = (nn.Parameter, torch.Tensor, nn.Buffer)


def refuse_unfaithful(module: nn.Module) -> None:
    """Look at the module before it is captured.

    Raises:
        CaptureError: it has backward hooks, TorchScript, tensors without values, or tensor subclasses.
    """
    _refuse_unregistered(module)
    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        if isinstance(tensor, (nn.UninitializedParameter, nn.UninitializedBuffer)):
            raise CaptureError(f"{name!r} is not initialised yet; call the module once")
        if tensor.is_meta:
            raise CaptureError(f"{name!r} is on the meta device and has no values")
        if type(tensor) not in _ORDINARY:
            raise CaptureError(f"{name!r} is a {type(tensor).__name__}, a tensor subclass")
    for path, child in module.named_modules():
        if child._backward_hooks or child._backward_pre_hooks:
            raise CaptureError(f"module {path or '(root)'!r} has backward hooks, which a graph would lose")
        if isinstance(child, torch.jit.ScriptModule):
            raise CaptureError(f"module {path or '(root)'!r} is TorchScript")


def _refuse_unregistered(module: nn.Module) -> None:
    """Modules that PyTorch does not know of, and random generators, hang on attributes."""
    registered = {id(m) for m in module.modules()}
    for path, child in module.named_modules():
        for name, value in child.__dict__.items():
            where = f"{path}.{name}".lstrip(".")
            if name in ("_parameters", "_buffers", "_modules"):
                continue
            held = [value, *(v for c in containers([value]) for v in (c.values() if isinstance(c, dict) else c))]
            if isinstance(value, tuple):
                held.extend(value)
            for entry in held:
                if isinstance(entry, nn.Module) and id(entry) not in registered:
                    raise CaptureError(f"{where!r} holds a module that is not registered")
                if type(entry).__module__.startswith(("numpy", "random")) and not isinstance(entry, (float, int)):
                    raise CaptureError(f"{where!r} holds a {type(entry).__name__}, whose changes cannot be followed")


@dataclass(frozen=True)
class Change:
    """A dictionary, list or set whose contents a call has changed.

    Attributes:
        path: its dotted name; empty for the attributes of the root module.
        container: the object itself.
        before, after: shallow copies of its contents.
        guarded: whether it belongs to the module, so that its contents are compared before every call.
    """

    path: str
    container: Any
    before: Any
    after: Any
    guarded: bool

    def has_entries(self) -> bool:
        """Whether it is a dictionary, whose entries can be looked at one by one."""
        return isinstance(self.after, dict)

    def keys(self) -> list[Any]:
        """What is bound to another value, for a dictionary or for lists of the same length."""
        if isinstance(self.after, dict):
            absent = object()
            return [
                k
                for k in {**self.before, **self.after}
                if not _same(self.before.get(k, absent), self.after.get(k, absent))
            ]
        return [i for i, (a, b) in enumerate(zip(self.before, self.after, strict=True)) if not _same(a, b)]

    def path_of(self, key: Any) -> str:
        """The dotted name of an entry."""
        return f"{self.path}.{key}".lstrip(".") if isinstance(self.after, dict) else f"{self.path}[{key}]"


class PythonState:
    """Shallow copies of every container that hangs off a module, its hooks or the arguments of a call."""

    def __init__(self, module: nn.Module, arguments: Any = ()) -> None:
        named = list(module.named_modules())
        self._kept: list[tuple[str, Any, Any, bool]] = [(path, m.__dict__, dict(m.__dict__), True) for path, m in named]
        for path, child in named:
            for name, value in child.__dict__.items():
                # Registries are transparent: blocks._parameters.weight is known as blocks.weight.
                where = path if name in ("_parameters", "_buffers", "_modules") else f"{path}.{name}".lstrip(".")
                self._kept.extend((where, c, c.copy(), True) for c in containers([value]))
            for value in _reachable_from_hooks(child):
                self._kept.extend(("a hook's variable", c, c.copy(), False) for c in containers([value]))
        self._arguments = [(c, c.copy()) for c in containers([arguments])]

    def changes(self) -> list[Change]:
        """What has changed since.

        Raises:
            CaptureError: a list or dictionary among the arguments has.
        """
        if any(not _same(container, before) for container, before in self._arguments):
            raise CaptureError("forward changes a list or a dictionary that it is given")
        return [
            Change(path, container, before, container.copy(), guarded)
            for path, container, before, guarded in self._kept
            if not _same(container, before)
        ]

    def owns(self, value: Any) -> bool:
        """Whether a container of the module or of the arguments is in ``value``."""
        mine = {id(container) for container in [*(c for _, c, *_ in self._kept), *(c for c, _ in self._arguments)]}
        return any(id(container) in mine for container in containers([value]))

    def restore(self) -> None:
        """Put everything back as it was."""
        for container, before in [*((c, b) for _, c, b, _ in self._kept), *self._arguments]:
            if isinstance(container, list):
                container[:] = before
            else:
                container.clear()
                container.update(before)


def _reachable_from_hooks(module: nn.Module) -> Iterator[Any]:
    """The variables that hooks of ``module`` close over."""
    for hook in [*module._forward_hooks.values(), *module._forward_pre_hooks.values()]:
        function = hook
        if isinstance(function, functools.partial):
            yield from (*function.args, *function.keywords.values())
            function = function.func
        owner = getattr(function, "__self__", None) or (None if hasattr(function, "__code__") else function)
        if owner is not None and not isinstance(owner, nn.Module):
            yield getattr(owner, "__dict__", {})
        for cell in getattr(getattr(function, "__func__", function), "__closure__", None) or ():
            try:
                yield cell.cell_contents
            except ValueError:
                continue  # not assigned yet


_PLAIN = (int, float, complex, bool, str, bytes, torch.dtype, torch.device)


def _same(a: Any, b: Any) -> bool:
    return same(a, b, _is_plain)


def _is_plain(value: object) -> bool:
    return isinstance(value, _PLAIN)


def is_configuration(value: object) -> bool:
    """Whether a value is an object of the user's that holds attributes: not a module, tensor, class or function."""
    if isinstance(value, (torch.Tensor, nn.Module, type)) or callable(value):
        return False
    return isinstance(getattr(value, "__dict__", None), dict) and not type(value).__module__.startswith("torch")


def containers(values: Iterable[Any]) -> Iterator[Any]:
    """The containers among ``values``, the attributes of objects among them, and what these contain, each once."""
    seen: set[int] = set()
    pending = list(values)
    while pending:
        value = pending.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, (list, dict, set)):
            yield value
            pending.extend(value.values() if isinstance(value, dict) else value)
        elif isinstance(value, tuple):
            pending.extend(value)
        elif is_configuration(value):
            pending.append(value.__dict__)
