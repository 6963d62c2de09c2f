"""Cheap checks, made at every call, that a module is still the one that was captured."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain, count
from operator import attrgetter, is_, itemgetter
from typing import Any

import torch
from torch import nn

from tzwc._torch.autograd import forward_mode_active
from tzwc._torch.dispatch import DeviceContext, current_dispatch_mode, function_modes
from tzwc._torch.functorch import current_transform
from tzwc._torch.modules import GLOBAL_HOOKS
from tzwc.native import watch_dicts
from tzwc.tracing.python_state import containers, is_configuration
from tzwc.util.equality import same

__all__ = ["ModuleGuard", "WrittenEntries", "transforms_active"]

_generations = count()  # of all guards: a graph outlives guards, and must not take one's number for another's
_training = attrgetter("training")

# Entries of a module's __dict__ that are looked at by other means, or that forward does not read.
_REGISTRIES = {"_parameters", "_buffers", "_modules"}
# The padding is made by PyTorch at construction from other attributes, which are looked at.
_WATCHED_OTHERWISE = _REGISTRIES | {"_reversed_padding_repeated_twice"}
# Set by torch.compile on modules that it is given; no forward reads them.
_FOREIGN = ("_is_torch_compile", "_compiled_call_impl")
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


class WrittenEntries:
    """Entries of dictionaries and lists that every call sets itself. Immutable.

    Args:
        entries: container and key of each. Containers are told apart by identity, and kept alive for that.
    """

    def __init__(self, entries: Iterable[tuple[Any, Any]] = ()) -> None:
        self._keys: dict[int, tuple[Any, frozenset[Any]]] = {}
        for container, key in entries:
            _, keys = self._keys.get(id(container), (container, frozenset()))
            self._keys[id(container)] = container, keys | {key}

    def of(self, container: object) -> frozenset[Any]:
        """The keys of ``container`` among them."""
        known = self._keys.get(id(container))
        return frozenset() if known is None else known[1]

    def includes(self, other: WrittenEntries) -> bool:
        """Whether every entry of ``other`` is one of these."""
        return all(keys <= self.of(container) for container, keys in other._keys.values())


class ModuleGuard:
    """Remembers the structure and the Python attributes of a module tree.

    Modules replaced, added or removed, hooks, changed classes (parametrizations change them), tied parameters that
    were untied, and plain attributes (a dropout rate, a flag) are noticed. Tensors are not looked at here, but
    :attr:`generation` tells when any of them may have been replaced by another one.

    Args:
        module: the root of the tree.
        written: entries that calls set themselves; they are not compared.

    Attributes:
        modules: every module of the tree.
        written: as given.
        generation: another one, unique in this process, whenever an entry of a module's dictionaries was rebound, even
            to an equal value.
    """

    def __init__(self, module: nn.Module, written: WrittenEntries | None = None) -> None:
        # TorchScript is refused at capture, and keeps its attributes where they cannot be looked at.
        self.modules = tuple(m for m in module.modules() if not isinstance(m, torch.jit.ScriptModule))
        self.written = written = WrittenEntries() if written is None else written
        self._children = [m._modules for m in self.modules if m._modules]
        self._child_modules = self._children_now()
        self._types = list(map(type, self.modules))
        self._hooks: list[Any] = [getattr(m, name) for m in self.modules for name in _HOOKS]
        self._hook_copies = [hooks.copy() for hooks in self._hooks]
        self._attributes = [(m.__dict__, *_attribute_getter(m, written)) for m in self.modules]
        # Containers, and objects such as a configuration, are compared by their contents; a list that is replaced by
        # an equal one must still be noticed, since it is the old one whose contents are looked at.
        self._bound = [
            (m.__dict__, *entry)
            for m in self.modules
            for entry in m.__dict__.items()
            if _is_watched(*entry) and entry[0] not in written.of(m.__dict__)
        ]
        held = list(containers([value for *_, value in self._bound]))
        self._dicts = [c for c in held if isinstance(c, dict)]
        self._dict_copies = [self._without_written(c) for c in self._dicts]
        self._lists = [c for c in held if not isinstance(c, dict)]
        self._list_copies = [self._without_written(c) for c in self._lists]
        self._lengths, self._held = list(map(len, self._lists)), list(chain.from_iterable(self._lists))
        # Tensors are read as inputs of the graph, but a program may ask whether there is one.
        self._typed = [
            (m.__dict__, name, torch.Tensor if isinstance(value, torch.Tensor) else type(value))
            for m in self.modules
            for name, value in m.__dict__.items()
            if isinstance(value, torch.Tensor) or name in written.of(m.__dict__)
        ]
        self._ties = _ties(self.modules)
        self._absent = self._absent_entries()
        self._record()

    def _record(self) -> None:
        registries = [d for m in self.modules for d in (m.__dict__, m._parameters, m._buffers, m._modules)]
        watched = [*registries, *self._hooks, *self._dicts]
        self.generation = next(_generations)
        # What calls set is watched apart, so that it can be recorded again without looking at all the rest.
        self._set_by_calls = [d for d in watched if self.written.of(d)]
        self._writes = watch_dicts(self._set_by_calls)
        self._not_written = list(map(self._others, self._set_by_calls))
        self._watch = watch_dicts([d for d in watched if not self.written.of(d)])
        self.training = bytes(map(_training, self.modules))
        entries = (t for m in self.modules for r in (m._parameters, m._buffers) for t in r.values())
        plain = (v for m in self.modules for v in m.__dict__.values() if isinstance(v, torch.Tensor))
        listed = (v for c in self._lists for v in c if isinstance(v, torch.Tensor))
        keyed = (v for c in self._dicts for v in c.values() if isinstance(v, torch.Tensor))
        self.parameters = [*(t for t in entries if t is not None), *plain, *listed, *keyed]

    def holds(self) -> bool:
        """Whether nothing has changed since construction, but for training flags and tensors."""
        try:
            # Every module has a set of its own: to look at all of them at once costs a quarter of looking at each.
            untouched = list(map(len, self._lists)) == self._lengths and all(
                map(is_, chain.from_iterable(self._lists), self._held)
            )
            if not untouched and not all(map(_same, map(self._without_written, self._lists), self._list_copies)):
                return False
            if not self._watch.changed() and not self._writes.changed():
                return True
            if not self._unchanged():
                return False
        except (KeyError, RuntimeError, ValueError):
            return False  # an attribute has gone, or is now something that cannot even be compared
        self._record()
        return True

    def accept_written(self) -> None:
        """A call has just set its entries: what else has changed in the same containers is still noticed."""
        if self._set_by_calls:
            writes = watch_dicts(self._set_by_calls)  # first, so that a later change shows in it
            if all(map(_identical, map(self._others, self._set_by_calls), self._not_written)):
                self._writes = writes
            self.generation = next(_generations)

    def _unchanged(self) -> bool:
        return (
            len(children := self._children_now()) == len(self._child_modules)
            and all(map(is_, children, self._child_modules))
            and list(map(type, self.modules)) == self._types
            and self._hooks == self._hook_copies
            and all(_entries(d) == n and _equal(get(d), values) for d, n, get, values in self._attributes)
            and all(d.get(name) is value for d, name, value in self._bound)
            and self._absent_entries() == self._absent
            and all(map(_same_entries, map(self._without_written, self._dicts), self._dict_copies))
            and all(isinstance(d.get(name), kind) for d, name, kind in self._typed)
            and all(a.get(j) is b.get(k) for a, j, b, k in self._ties)
        )

    def _without_written(self, container: Any) -> Any:
        """A copy of ``container`` in which what calls set themselves is reduced to its type."""
        written = self.written.of(container)
        if not written or isinstance(container, set):
            return container.copy()
        if isinstance(container, dict):
            return {k: type(v) if k in written else v for k, v in container.items()}
        return [type(v) if i in written else v for i, v in enumerate(container)]

    def _others(self, container: dict[Any, Any]) -> dict[Any, Any]:
        """What calls do not set in ``container``."""
        written = self.written.of(container)
        return {k: v for k, v in container.items() if k not in written}

    def _absent_entries(self) -> list[bool]:
        """Which parameters and buffers are None: a program may ask."""
        return [t is None for m in self.modules for r in (m._parameters, m._buffers) for t in r.values()]

    def _children_now(self) -> list[nn.Module | None]:
        return list(chain.from_iterable(map(dict.values, self._children)))


def _is_watched(name: str, value: object) -> bool:
    """Whether an attribute's value has contents of its own that forward may read."""
    if name in _WATCHED_OTHERWISE or name.endswith("_hooks"):
        return False
    return isinstance(value, (list, dict, set, tuple)) or is_configuration(value)


def _attribute_getter(module: nn.Module, written: WrittenEntries) -> tuple[int, Any, Any]:
    names = [
        name
        for name, value in module.__dict__.items()
        if name not in _REGISTRIES
        and name not in _FOREIGN
        and name != "training"
        and not isinstance(value, (torch.Tensor, list, dict, set))
        and name not in written.of(module.__dict__)
    ]
    getter = itemgetter(*names, "_parameters", "_buffers", "_modules")
    return _entries(module.__dict__), getter, getter(module.__dict__)


def _entries(attributes: dict[str, Any]) -> int:
    return len(attributes) - sum(name in attributes for name in _FOREIGN)


def _equal(now: tuple[Any, ...], then: tuple[Any, ...]) -> bool:
    """Equal, and of the same types: 2 is not 2.0, and 0.0 is not -0.0."""
    return all(a is b or (type(a) is type(b) and a == b and repr(a) == repr(b)) for a, b in zip(now, then, strict=True))


def _identical(now: dict[Any, Any], then: dict[Any, Any]) -> bool:
    return now.keys() == then.keys() and all(now[key] is value for key, value in then.items())


def _same_entries(now: dict[Any, Any], then: dict[Any, Any]) -> bool:
    return now.keys() == then.keys() and all(
        # Tensors in dictionaries are read as inputs of the graph.
        (isinstance(now[k], torch.Tensor) and isinstance(v, torch.Tensor)) or _same(now[k], v)
        for k, v in then.items()
    )


def _same(a: Any, b: Any) -> bool:
    """As :func:`_equal`, in nested containers too; of tensors, only one and the same."""
    return same(a, b, _is_no_tensor)


def _is_no_tensor(value: object) -> bool:
    return not isinstance(value, torch.Tensor)


def _ties(modules: Sequence[nn.Module]) -> list[tuple[dict[str, Any], str, dict[str, Any], str]]:
    """Pairs of registry entries that hold the same tensor: the graph reads one of them for both."""
    first: dict[int, tuple[dict[str, Any], str]] = {}
    ties: list[tuple[dict[str, Any], str, dict[str, Any], str]] = []
    for module in modules:
        registries: tuple[dict[str, Any], ...] = (module._parameters, module._buffers)
        for registry in registries:
            for name, tensor in registry.items():
                if id(tensor) in first:
                    ties.append((*first[id(tensor)], registry, name))
                elif tensor is not None:
                    first[id(tensor)] = (registry, name)
    return ties


def transforms_active(leaves: Iterable[object]) -> str | None:
    """Why the original module must run instead of compiled code; ``None`` when nothing stands against it."""
    if current_transform() is not None:
        return "under a torch.func transform"
    if current_dispatch_mode() is not None:
        return "under a dispatch mode"
    if any(not isinstance(mode, DeviceContext) for mode in function_modes()):
        return "under a function mode"
    if forward_mode_active():
        return "under forward-mode differentiation"
    if any(GLOBAL_HOOKS):
        return "hooks on all modules are registered"
    for leaf in leaves:
        if issubclass(type(leaf), torch.Tensor) and type(leaf) not in (torch.Tensor, nn.Parameter, nn.Buffer):
            return f"an argument is a {type(leaf).__name__}"
    return None
