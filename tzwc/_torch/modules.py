"""What ``torch.nn`` keeps for all modules of a process."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch.nn.modules import module as _module
from torch.nn.utils import parametrize as _parametrize

_state: Any = _parametrize  # whose globals are written here

GLOBAL_HOOKS: tuple[Mapping[int, Any], ...] = (
    _module._global_forward_hooks,
    _module._global_forward_pre_hooks,
    _module._global_backward_hooks,
    _module._global_backward_pre_hooks,
)
"""The hooks that run for every module; PyTorch changes these dictionaries in place."""


def parametrizations_cached() -> bool:
    """Whether the process is inside ``torch.nn.utils.parametrize.cached()``."""
    return bool(_state._cache_enabled)


def parametrization_cache() -> dict[tuple[int, str], Any]:
    """The parametrized weights that are kept, by the ``id`` of their module and their name."""
    cache: dict[tuple[int, str], Any] = _state._cache
    return cache


def set_parametrization_cache(cache: dict[tuple[int, str], Any]) -> None:
    """Let ``torch.nn.utils.parametrize`` keep weights in ``cache`` from now on."""
    _state._cache = cache
