"""The random generators of a program while it is traced: none may be left changed, and none may be read or set."""

from __future__ import annotations

import random
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import CellType, FunctionType, ModuleType
from typing import Any

import torch

from tzwc._torch.operators import OpOverload
from tzwc.errors import CaptureError
from tzwc.ir.graph import is_random

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
        node.op == "call_function" and (is_random(node) or not isinstance(node.target, OpOverload))
        for node in graph.nodes
    )


@contextmanager
def same_randomness(module: torch.nn.Module | None = None) -> Iterator[None]:
    """Refuse programs that draw random numbers outside of PyTorch, or seed a generator; leave all generators alone.

    Args:
        module: whose code may name generators of its own.

    Raises:
        CaptureError: on exit.
    """
    others = [(generator, _state(generator)) for generator in _generators(module)]
    with torch.random.fork_rng():
        torch_state = torch.get_rng_state()
        try:
            yield
        finally:
            seeded = not torch.equal(torch.get_rng_state(), torch_state)
            drawn = [(generator, before) for generator, before in others if not _equal(_state(generator), before)]
            for generator, before in drawn:
                _set_state(generator, before)
    if drawn:
        library = "Python's random module" if isinstance(drawn[0][0], random.Random) else "numpy.random"
        raise CaptureError(f"forward draws from {library}, whose values would be frozen")
    if seeded:
        raise CaptureError("forward seeds PyTorch's random generator")


def _generators(module: torch.nn.Module | None) -> list[Any]:
    """The generators of Python and NumPy that the code of ``module`` names, and the global ones.

    Others may be drawn from meanwhile by a library or another thread, which is no business of the program's.
    """
    kinds: tuple[type, ...] = (random.Random,)
    held: list[Any] = [getattr(random, "_inst", None)]
    numpy = sys.modules.get("numpy.random")
    if numpy is not None:
        kinds = (*kinds, numpy.RandomState, numpy.BitGenerator)
        held.append(numpy.mtrand._rand)
    for namespace in _namespaces(module):
        held.extend(namespace)
    if numpy is not None:
        held = [h.bit_generator if issubclass(type(h), numpy.Generator) else h for h in held]
    found = {id(h): h for h in held if issubclass(type(h), kinds) and not issubclass(type(h), random.SystemRandom)}
    return list(found.values())


def _namespaces(module: torch.nn.Module | None) -> Iterator[list[Any]]:
    """What the code of a module names: globals and closures, and the globals of what these name in turn."""
    seen: set[int] = set()
    pending: list[tuple[Any, int]] = [(type(m).forward, 0) for m in (module.modules() if module is not None else ())]
    pending += [(v, 0) for m in (module.modules() if module is not None else ()) for v in vars(m).values()]
    while pending:
        value, depth = pending.pop()
        if id(value) in seen or not isinstance(value, (FunctionType, ModuleType)):
            continue
        seen.add(id(value))
        names = value.__globals__ if isinstance(value, FunctionType) else vars(value)
        if isinstance(value, FunctionType) and value.__closure__ is not None:
            cells = [cell.cell_contents for cell in value.__closure__ if not _is_empty(cell)]
            yield cells
            pending.extend((v, depth) for v in cells)
        if id(names) in seen or _is_library(str(names.get("__name__"))):
            continue
        seen.add(id(names))
        values = list(names.values())
        yield values
        if depth < _DEPTH:
            pending.extend((v, depth + 1) for v in values)


_DEPTH = 2  # a function of a module that the program's own module imports


def _is_library(name: str) -> bool:
    top = name.partition(".")[0]
    return top in sys.stdlib_module_names or top in ("torch", "numpy", "tzwc")


def _is_empty(cell: CellType) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return True
    return False


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
