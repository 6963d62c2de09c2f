"""Composite operators under autocast.

A trace meets composite operators whole, below autograd. Autocast converts the operands of the products *inside* of some
of them and has no rule for the operator around, so these must come apart where autocast still acts. It does not act any
more where a dispatch mode is called, hence the look from above: where autocast is on when a trace begins, and inside of
the regions that the module has itself. (A look from above at every function would take too long.)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from tzwc._torch.autocast import any_autocast_enabled
from tzwc._torch.dispatch import (
    ForceDispatchKeyGuard,
    count_dispatch_modes,
    excluded_dispatch_keys,
    included_dispatch_keys,
)

__all__ = ["AutocastAbove"]

aten = torch.ops.aten
_APART = {
    *(aten.einsum, aten.tensordot, aten.inner, aten.chain_matmul, aten.linalg_multi_dot),
    *(aten.matrix_power, aten.linalg_matrix_power, aten.cov, aten.corrcoef),
}


class AutocastAbove(TorchFunctionMode):
    """Remembers, while a function of PyTorch runs under autocast, with which dispatch keys it was called."""

    def __init__(self) -> None:
        super().__init__()
        self._keys: tuple[Any, Any] | None = None
        self._regions: list[ExitStack] = []

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: tuple[type, ...],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        del types
        if not any_autocast_enabled():
            return func(*args, **(kwargs or {}))
        before = self._keys
        self._keys = included_dispatch_keys(), excluded_dispatch_keys()
        try:
            return func(*args, **(kwargs or {}))
        finally:
            self._keys = before

    def begins(self, original: Callable[..., Any], region: torch.autocast) -> Any:
        """In place of ``autocast.__enter__`` while a program is traced."""
        result = original(region)
        watched = ExitStack()
        if count_dispatch_modes() and any_autocast_enabled():
            watched.enter_context(self)
        self._regions.append(watched)
        return result

    def ends(self, original: Callable[..., Any], region: torch.autocast, *error: Any) -> Any:
        """In place of ``autocast.__exit__`` while a program is traced."""
        if self._regions:
            self._regions.pop().close()
        return original(region, *error)

    def parts(self, operator: Any) -> bool:
        """Whether ``operator``, met by a dispatch mode, has products inside which autocast would convert."""
        return self._keys is not None and operator.overloadpacket in _APART

    def active(self) -> AbstractContextManager[None]:
        """The dispatch keys of the caller, autocast among them."""
        assert self._keys is not None
        guard: AbstractContextManager[None] = ForceDispatchKeyGuard(*self._keys)
        return guard
