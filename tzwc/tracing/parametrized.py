"""Parametrized weights inside ``torch.nn.utils.parametrize.cached()``.

There, PyTorch evaluates a parametrization at the first access and hands the same tensor out until the block ends. That
tensor is what a graph takes as its input, fetched through the module at every call, so that values, gradients and the
state that a parametrization keeps (a power iteration) are those of the module: one evaluation in a block, even where a
parameter is changed within it. Outside of such blocks a graph of another kind computes the weight from the parameters.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from torch import Tensor, nn
from torch.nn.utils import parametrize

from tzwc._torch.modules import parametrization_cache, parametrizations_cached, set_parametrization_cache
from tzwc.errors import TzwcError

__all__ = ["CachedWeights", "UncachedError", "caching", "evaluating_weights", "traced_cache"]

_T = TypeVar("_T")


def caching() -> bool:
    """Whether PyTorch keeps parametrized weights at present."""
    return parametrizations_cached()


class CachedWeights:
    """The parametrized weights of ``module`` by name, as its ``forward`` gets them inside a block.

    Args:
        module: holds the parametrizations.
    """

    def __init__(self, module: nn.Module) -> None:
        self._module = module

    def __getitem__(self, name: str) -> Tensor:
        if not caching() or not parametrize.is_parametrized(self._module, name):
            raise KeyError(name)
        tensor: Tensor = getattr(self._module, name)
        return tensor


class UncachedError(TzwcError):
    """The traced call reads weights that the block has not evaluated yet; :meth:`evaluate`, then trace again."""

    def __init__(self, weights: Sequence[tuple[nn.Module, str]]) -> None:
        super().__init__(f"{len(weights)} parametrized weights are not evaluated yet")
        self._weights = weights

    def evaluate(self) -> None:
        """Evaluate them as the module would, in the modes of the caller."""
        for module, name in self._weights:
            getattr(module, name)


def evaluating_weights(trace: Callable[[], _T]) -> _T:
    """``trace()``, again after an :class:`UncachedError`, with the weights evaluated in the modes of the caller."""
    try:
        return trace()
    except UncachedError as missing:
        missing.evaluate()
        return trace()


class _TracedCache(dict[Any, Any]):
    """Stands for PyTorch's cache; other threads get the cache itself."""

    def __init__(self, outer: dict[Any, Any], found: Callable[[Any, Tensor | None], None]) -> None:
        super().__init__()
        self.outer = outer
        self.missing: list[Any] = []
        self._found = found
        self._thread = threading.get_ident()

    def get(self, key: Any, default: Any = None) -> Any:
        if threading.get_ident() != self._thread:
            return self.outer.get(key, default)
        tensor = self.outer.get(key)
        if tensor is not None:
            self._found(key, tensor)
            return tensor
        return super().get(key, default)

    def __setitem__(self, key: Any, tensor: Any) -> None:
        if threading.get_ident() != self._thread:
            self.outer[key] = tensor
            return
        self._found(key, None)
        self.missing.append(key)
        super().__setitem__(key, tensor)


@contextmanager
def traced_cache(module: nn.Module, found: Callable[[nn.Module, str, Tensor | None], None]) -> Iterator[None]:
    """While the context is open, ``found`` gets module, name and tensor of every weight read.

    The tensor is ``None`` where PyTorch has not cached it yet.

    Raises:
        UncachedError: on exit, when weights of ``module`` were read that PyTorch has not cached yet.
    """
    if not caching():
        yield
        return
    owners = {id(child): child for child in module.modules()}

    def note(key: tuple[int, str], tensor: Tensor | None) -> None:
        if key[0] in owners:
            found(owners[key[0]], key[1], tensor)

    cache = _TracedCache(parametrization_cache(), note)
    set_parametrization_cache(cache)
    try:
        yield
    finally:
        if parametrization_cache() is cache:  # otherwise another thread has left the last block meanwhile
            set_parametrization_cache(cache.outer)
    missing = [(owners[number], name) for number, name in cache.missing if number in owners]
    if missing:
        raise UncachedError(missing)
