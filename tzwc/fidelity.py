"""What makes a captured graph silently wrong, found out and refused.

Attribute writes, Python-side randomness, custom autograd functions and hooks leave no trace in a graph of operators.
"""

from __future__ import annotations

import random
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from tzwc.errors import CaptureError

__all__ = ["refuse_unfaithful", "watched"]


def refuse_unfaithful(module: nn.Module) -> None:
    """Look at the module before it is captured.

    Raises:
        CaptureError: it has hooks, TorchScript, tensors without values, or tensor subclasses.
    """
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


_PLAIN = (int, float, complex, bool, str, bytes, set, frozenset, torch.dtype, torch.device, torch.Size)

_capturing = threading.RLock()


@contextmanager
def watched(module: nn.Module) -> Iterator[None]:
    """Refuse forwards that change Python state or define their own derivatives, and leave everything as it was."""
    before = _python_state(module)
    generator = random.getstate()
    numpy = sys.modules.get("numpy")
    numpy_state = numpy.random.get_state() if numpy else None
    thread = threading.get_ident()
    function = torch.autograd.Function
    original = function.__dict__.get("apply")

    def apply(cls: Any, *args: Any, **kwargs: Any) -> Any:
        if threading.get_ident() == thread:
            raise CaptureError(f"{cls.__name__} is a custom autograd.Function, whose backward would be lost")
        return original.__func__(cls, *args, **kwargs)  # type: ignore[union-attr]

    with _capturing, torch.random.fork_rng():
        function.apply = classmethod(apply)  # type: ignore[assignment]
        try:
            yield
        finally:
            if original is None:
                del function.apply
            else:
                function.apply = original  # type: ignore[method-assign]
            changed = _restore(before)
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


_State = list[tuple[str, Any, Any]]


def _python_state(module: nn.Module) -> _State:
    """Shallow copies of every mutable container that hangs off the module, with a name for each."""
    state: _State = []
    for path, child in module.named_modules(remove_duplicate=True):
        prefix = f"{path}." if path else ""
        state.append((prefix + "__dict__", child.__dict__, dict(child.__dict__)))
        for name, value in child.__dict__.items():
            if isinstance(value, (dict, list, set)):
                state.append((prefix + name, value, value.copy()))
    return state


def _restore(state: _State) -> list[str]:
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
