"""The random generators of a program while it is traced: none may be left changed, and none may be read or set."""

from __future__ import annotations

import gc
import random
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from tzwc.errors import CaptureError
from tzwc.graph import is_random

__all__ = ["WatchedGenerator", "draws", "same_randomness"]


class WatchedGenerator:
    """Stands for PyTorch's generator where ``torch.random`` looks it up, and tells of what is done with its state.

    Operators are tried out on fakes and draw nothing, so that a state that is read, set or seeded within the traced
    call would be another one than in the module.

    Args:
        generator: the real one, which every other thread gets.
        refuse: gives up, and tells why.
        moved: is told when the program saves, sets or seeds the state.
    """

    def __init__(self, generator: Any, refuse: Callable[[str], Any], moved: Callable[[], None]) -> None:
        self._generator, self._refuse, self._moved = generator, refuse, moved
        self._thread = threading.get_ident()

    def __getattr__(self, name: str) -> Any:
        if threading.get_ident() == self._thread:
            self._asked(name)
        return getattr(self._generator, name)

    def _asked(self, name: str) -> None:
        # The caller of the function of torch.random that uses the generator.
        caller = str(sys._getframe(3).f_globals.get("__name__"))
        if caller == "torch.utils.checkpoint":
            return  # for its recomputation, which is the compiler's
        if name == "initial_seed" or (name == "get_state" and caller != "torch.random"):
            self._refuse("reads the state of PyTorch's random generator")
        self._moved()


def draws(graph: torch.fx.Graph) -> bool:
    """Whether the graph may draw random numbers."""
    return any(
        node.op == "call_function" and (is_random(node) or not isinstance(node.target, torch._ops.OpOverload))
        for node in graph.nodes
    )


@contextmanager
def same_randomness() -> Iterator[None]:
    """Refuse programs that draw random numbers outside of PyTorch, or seed a generator; leave all generators alone.

    Raises:
        CaptureError: on exit.
    """
    others = [(generator, _state(generator)) for generator in _generators()]
    with torch.random.fork_rng():
        torch_state = torch.get_rng_state()
        try:
            yield
        finally:
            seeded = not torch.equal(torch.get_rng_state(), torch_state)
            drawn = [(generator, before) for generator, before in others if not _equal(_state(generator), before)]
            for generator, before in drawn:
                # What another thread draws from a generator of its own must not be drawn twice.
                if threading.active_count() == 1 or _is_global(generator):
                    _set_state(generator, before)
    if drawn:
        kind = type(drawn[0][0])
        raise CaptureError(f"forward draws from a {kind.__module__}.{kind.__name__}, whose values would be frozen")
    if seeded:
        raise CaptureError("forward seeds PyTorch's random generator")


def _generators() -> list[Any]:
    """Every generator of Python's and NumPy's that there is."""
    kinds: tuple[type, ...] = (random.Random,)
    numpy = sys.modules.get("numpy.random")
    if numpy is not None:
        kinds = (*kinds, numpy.RandomState, numpy.BitGenerator)
    found = (held for held in gc.get_objects() if issubclass(type(held), kinds))
    return [generator for generator in found if not issubclass(type(generator), random.SystemRandom)]


def _is_global(generator: Any) -> bool:
    numpy = sys.modules.get("numpy.random")
    shared = [getattr(random, "_inst", None)]
    if numpy is not None:
        own = numpy.mtrand._rand
        shared += [own, own._bit_generator]
    return any(generator is known for known in shared)


def _state(generator: Any) -> Any:
    if isinstance(generator, random.Random):
        return generator.getstate()
    return generator.get_state(legacy=False) if hasattr(generator, "get_state") else generator.state


def _set_state(generator: Any, state: Any) -> None:
    if isinstance(generator, random.Random):
        generator.setstate(state)
    elif hasattr(generator, "set_state"):
        generator.set_state(state)
    else:
        generator.state = state


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_equal(a[key], b[key]) for key in a)
    same = a == b
    return bool(same.all()) if hasattr(same, "all") else bool(same)
