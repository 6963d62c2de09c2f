"""A module that runs as it was written, with the submodules that it calls compiled one by one."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

__all__ = ["Submodules", "worth_compiling"]

_Call = Callable[..., Any]
_local = threading.local()
_CALLED = nn.Module.__call__.__code__


def worth_compiling(module: nn.Module) -> list[nn.Module]:
    """The outermost submodules that are more than one operator, in the order of the tree."""
    found: dict[int, nn.Module] = {}
    for child in module.children():
        if isinstance(child, (nn.ModuleList, nn.ModuleDict)):
            found.update((id(m), m) for m in worth_compiling(child))
        elif next(child.children(), None) is not None or not type(child).__module__.startswith("torch.nn"):
            found.setdefault(id(child), child)
    return list(found.values())


class Submodules:
    """Calls ``module`` with other implementations in place of some of its submodules.

    Only calls through this object are diverted, and only in the thread that makes them: the submodules themselves
    keep working as they are.

    Args:
        module: runs as it is.
        implementations: by the submodule that each stands for.
    """

    def __init__(self, module: nn.Module, implementations: Sequence[tuple[nn.Module, _Call]]) -> None:
        self._module = module
        self._routes = {id(child): call for child, call in implementations}
        for child, _ in implementations:
            if child._compiled_call_impl is None:
                # nn.Module.__call__ asks for it; it is left out of copies and pickles.
                child.__dict__["_compiled_call_impl"] = _Diversion(child)

    def __call__(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """``module(*args, **kwargs)``."""
        with _routes(self._routes):
            return self._module(*args, **kwargs)


class _Diversion:
    """Takes the calls of one submodule."""

    def __init__(self, module: nn.Module) -> None:
        self._module = module

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        called = self._module if torch.compiler.is_compiling() else _called(self._module)
        if called is not self._module:
            return called._call_impl(*args, **kwargs)  # type: ignore[no-untyped-call]
        routes: dict[int, _Call] = getattr(_local, "routes", {})
        # Taken out while it runs, so that an implementation that calls the original reaches it.
        implementation = routes.pop(id(self._module), None)
        if implementation is None:
            return self._module._call_impl(*args, **kwargs)  # type: ignore[no-untyped-call]
        try:
            return implementation(*args, **kwargs)
        finally:
            routes[id(self._module)] = implementation


def _called(module: nn.Module) -> nn.Module:
    """The module that is called through the diversion of ``module``: replicas for ``DataParallel`` share it."""
    frame = sys._getframe(2)
    called = frame.f_locals.get("self") if frame.f_code is _CALLED else None
    return called if isinstance(called, nn.Module) else module


@contextmanager
def _routes(routes: dict[int, _Call]) -> Iterator[None]:
    before = getattr(_local, "routes", {})
    _local.routes = {**before, **routes}
    try:
        yield
    finally:
        _local.routes = before
