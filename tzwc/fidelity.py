"""What makes a captured graph silently wrong, found out and refused.

Attribute writes, Python-side randomness, custom autograd functions and hooks leave no trace in a graph of operators.
"""

from __future__ import annotations

import random
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from tzwc.errors import CaptureError
from tzwc.guards import containers

__all__ = ["python_state", "refuse_unfaithful", "restore", "watched"]


def refuse_unfaithful(module: nn.Module) -> None:
    """Look at the module before it is captured.

    Raises:
        CaptureError: it has hooks, TorchScript, tensors without values, or tensor subclasses.
    """
    _refuse_unregistered(module)
    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        if isinstance(tensor, (nn.UninitializedParameter, nn.UninitializedBuffer)):
            raise CaptureError(f"{name!r} is not initialised yet; call the module once")
        if tensor.is_meta:
            raise CaptureError(f"{name!r} is on the meta device and has no values")
        if type(tensor) not in (nn.Parameter, torch.Tensor, nn.Buffer):
            raise CaptureError(f"{name!r} is a {type(tensor).__name__}, a tensor subclass")
    for path, child in module.named_modules():
        if child._forward_hooks or child._forward_pre_hooks or child._backward_hooks or child._backward_pre_hooks:
            raise CaptureError(f"module {path or '(root)'!r} has hooks, whose side effects a graph cannot replay")
        if isinstance(child, torch.jit.ScriptModule):
            raise CaptureError(f"module {path or '(root)'!r} is TorchScript")


def _refuse_unregistered(module: nn.Module) -> None:
    """Parameters and modules that PyTorch does not know of, and random generators, hang on attributes."""
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
                if isinstance(entry, torch.Tensor) and entry.requires_grad:
                    raise CaptureError(f"{where!r} holds a parameter that is not registered")
                if type(entry).__module__.startswith(("numpy", "random")) and not isinstance(entry, (float, int)):
                    raise CaptureError(f"{where!r} holds a {type(entry).__name__}, whose changes cannot be followed")


_PLAIN = (int, float, complex, bool, str, bytes, set, frozenset, torch.dtype, torch.device, torch.Size)

_capturing = threading.RLock()


@contextmanager
def watched(module: nn.Module, arguments: Any = ()) -> Iterator[None]:
    """Refuse forwards that change Python state or define their own derivatives, and leave everything as it was."""
    before = python_state(module, arguments)
    contents = [(tensor, tensor.detach().clone()) for tensor in _real_tensors(module)]
    generator = random.getstate()
    numpy = sys.modules.get("numpy")
    numpy_state = numpy.random.get_state() if numpy else None
    thread = threading.get_ident()

    def refuse(reason: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def guarded(*args: Any, **kwargs: Any) -> Any:
            if threading.get_ident() == thread:
                raise CaptureError(reason)
            return original(*args, **kwargs)

        return guarded

    # Every call of an autograd.Function asks this, also one through an alias such as ``double = Double.apply``.
    function = torch.autograd.function
    patches: list[tuple[Any, str, str]] = [
        (
            function,
            "_is_setup_context_defined",
            "forward calls a custom autograd.Function, whose backward would be lost",
        ),
        (torch.Tensor, "register_hook", "forward registers a hook on a tensor, which would be lost"),
        (torch.Tensor, "retain_grad", "forward retains the gradient of a tensor, which would be lost"),
    ]
    originals = [(owner, name, getattr(owner, name)) for owner, name, _ in patches]

    with _capturing, torch.random.fork_rng():
        for owner, name, reason in patches:
            setattr(owner, name, refuse(reason, getattr(owner, name)))
        try:
            yield
        finally:
            for owner, name, original in originals:
                setattr(owner, name, original)
            changed = restore(before)
            _restore_contents(contents)
    if changed:
        shown = ", ".join(map(repr, changed[:3])) + (f" and {len(changed) - 3} more" if len(changed) > 3 else "")
        raise CaptureError(f"forward writes {shown}, an effect that a graph cannot replay")
    if random.getstate() != generator:
        random.setstate(generator)
        raise CaptureError("forward draws from Python's random module, whose values would be frozen")
    if numpy and not _same_numpy_state(numpy_state, numpy.random.get_state()):
        numpy.random.set_state(numpy_state)
        raise CaptureError("forward draws from numpy.random, whose values would be frozen")


def _same_numpy_state(a: Any, b: Any) -> bool:
    return all((x == y).all() if hasattr(x == y, "all") else x == y for x, y in zip(a, b, strict=True))


def _real_tensors(module: nn.Module) -> list[torch.Tensor]:
    """Everything that forward may write to: tracing lets some writes through to the real tensors."""
    plain = (v for m in module.modules() for v in m.__dict__.values() if isinstance(v, torch.Tensor))
    return [*module.parameters(), *module.buffers(), *plain]


def _restore_contents(contents: list[tuple[torch.Tensor, torch.Tensor]]) -> None:
    with torch.no_grad():
        for tensor, before in contents:
            if not torch.equal(tensor.detach(), before):
                tensor.detach().copy_(before)


_State = list[tuple[str, Any, Any]]


def python_state(module: nn.Module, arguments: Any = ()) -> _State:
    """Shallow copies of every container that hangs off the module or is among its arguments, with a name for each."""
    state: _State = [(f"{path}.__dict__".lstrip("."), m.__dict__, dict(m.__dict__)) for path, m in _named(module)]
    for path, child in _named(module):
        for name, value in child.__dict__.items():
            where = f"{path}.{name}".lstrip(".")
            state.extend((where, container, container.copy()) for container in containers([value]))
    state.extend(("an argument", container, container.copy()) for container in containers([arguments]))
    return state


def _named(module: nn.Module) -> list[tuple[str, nn.Module]]:
    return list(module.named_modules())


def restore(state: _State) -> list[str]:
    """Put the containers back as they were; returns the names of those whose contents had really changed.

    Export rebuilds some containers from their leaves, so that equal copies stand in for the originals.
    """
    changed: list[str] = []
    for name, container, before in state:
        if isinstance(container, dict):
            keys = [k for k in {*container, *before} if not _same(container.get(k, state), before.get(k, state))]
            owner = name.removesuffix("__dict__").rstrip(".")
            changed.extend(f"{owner}.{k}".lstrip(".") for k in keys)
            container.clear()
            container.update(before)
        elif isinstance(container, list):
            if not _same(container, before):
                changed.append(name)
            container[:] = before
        else:
            if container != before:
                changed.append(name)
            container.clear()
            container.update(before)
    return changed


def _same(a: Any, b: Any) -> bool:
    """Identical, or equal plain data."""
    if a is b:
        return True
    if type(a) is not type(b):
        return False
    if isinstance(a, (tuple, list)):
        return len(a) == len(b) and all(map(_same, a, b))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_same(a[k], b[k]) for k in a)
    return isinstance(a, _PLAIN) and bool(a == b)
