"""What a program can do to tensors and to the world without calling an operator, seen or refused while it is traced."""

from __future__ import annotations

import builtins
import logging
import random
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import FunctionMeta

from tzwc._torch import pytree
from tzwc._torch.dispatch import count_dispatch_modes, disable_current_modes
from tzwc._torch.fake_tensors import FakeTensor
from tzwc._torch.tensors import TensorBase
from tzwc.tracing.custom_functions import recorded_whole
from tzwc.tracing.patches import Patches
from tzwc.tracing.random_generators import WatchedGenerator
from tzwc.tracing.tracer import Tracer

__all__ = ["Interception"]

_SYMBOLS = (torch.SymInt, torch.SymFloat, torch.SymBool)


class Interception:
    """Patches PyTorch, for one thread, so that ``tracer`` learns of what does not go through the dispatcher.

    Attributes:
        printed: arguments of the calls of ``print``, in order.
        moved: lines that gave a tensor other data, ``p.data = x``: once done, the program is another one.
        generator_moved: the line that saved, set or seeded PyTorch's random generator; empty when none did.
    """

    def __init__(self, tracer: Tracer, *, numbers: bool = True) -> None:
        self._numbers = numbers
        self.printed: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
        self.moved: list[str] = []
        self.generator_moved = ""
        self._undo: list[tuple[Tensor, Tensor]] = []
        self._lent: list[tuple[Tensor, Tensor]] = []
        self._tracer = tracer
        self._patches = Patches()
        self._functions = ExitStack()

    @contextmanager
    def active(self) -> Iterator[None]:
        """Intercept; on exit everything is as it was, data that were moved included."""
        tracer, function, attribute = self._tracer, self._patches.function, self._patches.attribute
        with ExitStack() as stack, self._functions:
            for name in ("tolist", "__repr__", "__str__", "__reduce_ex__"):
                stack.enter_context(function(Tensor, name, self._reading(name)))
            for name in ("numpy", "__array__", "__dlpack__"):
                stack.enter_context(function(Tensor, name, self._lending(name)))
            stack.enter_context(function(Tensor, "__int__", self._integer))
            stack.enter_context(function(Tensor, "item", self._item))
            for name in ("register_hook", "retain_grad", "register_post_accumulate_grad_hook"):
                stack.enter_context(function(Tensor, name, self._needing_history(name)))
            for owner, name in ((Tensor, "backward"), (torch.autograd, "grad"), (torch.autograd, "backward")):
                stack.enter_context(function(owner, name, self._refusing("differentiates inside forward")))
            for name in ("grad_fn", "is_leaf"):
                stack.enter_context(attribute(name, self._history(name)))
            stack.enter_context(attribute("grad", self._history("grad"), self._set_grad))
            stack.enter_context(attribute("_version", self._version))
            stack.enter_context(attribute("requires_grad", self._asks_requires_grad, self._set_requires_grad))
            stack.enter_context(function(Tensor, "requires_grad_", self._requires_grad_))
            stack.enter_context(attribute("data", None, self._set_data))
            for symbol in _SYMBOLS:
                for name in ("__repr__", "__str__", "__format__"):
                    stack.enter_context(function(symbol, name, _as_number(name)))
            stack.enter_context(function(torch.autocast, "__enter__", tracer.autocast.begins))
            stack.enter_context(function(torch.autocast, "__exit__", tracer.autocast.ends))
            stack.enter_context(function(builtins, "print", self._print))
            stack.enter_context(function(sys.stdout, "write", self._refusing("writes to the standard output")))
            stack.enter_context(function(logging.Logger, "handle", self._log))
            for owner, name in _generators():
                refuse = self._refusing("draws random numbers outside of PyTorch, whose values would be frozen")
                stack.enter_context(function(owner, name, refuse))
            stack.enter_context(function(torch.jit.ScriptFunction, "__call__", self._script))
            stack.enter_context(function(FunctionMeta, "__getattribute__", self._function))
            stack.enter_context(self._watched_generator())
            try:
                yield
            finally:
                for tensor, data in reversed(self._undo):
                    TensorBase.data.__set__(tensor, data)

    @contextmanager
    def _watched_generator(self) -> Iterator[None]:
        module: Any = torch.random
        original = module.default_generator
        module.default_generator = WatchedGenerator(original, self._tracer.refuse, self._note_generator)
        try:
            yield
        finally:
            module.default_generator = original

    def _note_generator(self) -> None:
        self.generator_moved = self.generator_moved or self._tracer.origins.line()

    def _refusing(self, what: str) -> Callable[..., Any]:
        def refuse(original: Any, *args: Any, **kwargs: Any) -> Any:
            del original, args, kwargs
            self._tracer.refuse(what)

        return refuse

    # --- values -----------------------------------------------------------------------------------------------------

    def _reading(self, name: str) -> Callable[..., Any]:
        def read(original: Any, tensor: Tensor, *args: Any, **kwargs: Any) -> Any:
            if self._tracer.tensors.is_dynamic(tensor):
                self._tracer.refuse(f"reads a tensor that depends on the inputs (Tensor.{name})")
            with disable_current_modes():
                self._tracer.read(self._tracer.tensors.node_of(tensor), "value", TensorBase.detach(tensor).clone())
                return original(tensor, *args, **kwargs)

        return read

    def _lending(self, name: str) -> Callable[..., Any]:
        """Reading that shares the memory: what is written there is found by :meth:`changed_unseen`."""
        read = self._reading(name)

        def lend(original: Any, tensor: Tensor, *args: Any, **kwargs: Any) -> Any:
            result = read(original, tensor, *args, **kwargs)
            with disable_current_modes():
                self._tracer.memory.save(tensor)
                self._lent.append((tensor, TensorBase.detach(tensor).clone()))
            return result

        return lend

    def changed_unseen(self) -> bool:
        """Whether memory that the program looks at without operators has changed after it was first looked at."""
        return any(self._tracer.tensors.is_dynamic(t) or not torch.equal(t, before) for t, before in self._lent)

    def _version(self, tensor: Tensor) -> int:
        if not isinstance(tensor, FakeTensor):
            self._tracer.refuse("asks how often a tensor was written to")
        version: int = TensorBase._version.__get__(tensor)
        return version

    def _integer(self, original: Any, tensor: Tensor) -> int:
        if self._tracer.tensors.is_dynamic(tensor):
            self._tracer.refuse("reads a value that depends on the inputs")
        with disable_current_modes():
            value: int = original(tensor)
            self._tracer.read(self._tracer.tensors.node_of(tensor), "integer", value)
        return value

    def _item(self, original: Any, tensor: Tensor) -> Any:
        if not self._numbers or not tensor.is_floating_point() or self._tracer.tensors.is_dynamic(tensor):
            return original(tensor)
        if tensor.numel() != 1 or count_dispatch_modes() == 0:
            return original(tensor)
        return self._tracer.number(tensor)

    def _set_data(self, tensor: Tensor, value: Tensor) -> None:
        if self._tracer.tensors.is_dynamic(tensor) or self._tracer.tensors.is_dynamic(value):
            self._tracer.refuse("gives a tensor data that depend on the inputs")
        if _same_place(tensor, value):
            return  # ``p.data *= 2`` writes in place, then assigns what it wrote to
        self.moved.append(self._tracer.origins.line())
        with disable_current_modes():
            self._undo.append((tensor, TensorBase.detach(tensor)))
            TensorBase.data.__set__(tensor, value)
            self._tracer.tensors.bind(tensor, self._tracer.tensors.node_of(value))

    # --- history ----------------------------------------------------------------------------------------------------

    def _requires_grad(self, tensor: Tensor) -> bool:
        with disable_current_modes():
            return self._tracer.tensors.requires_grad(tensor)

    def _asks_requires_grad(self, tensor: Tensor) -> bool:
        if isinstance(tensor, torch.nn.Parameter) and not self._tracer.recorder.grad:
            # Not part of the kind of a call, where gradients are off.
            self._tracer.refuse("asks whether a parameter requires gradients while they are switched off")
        return self._requires_grad(tensor)

    def _set_requires_grad(self, tensor: Tensor, value: bool) -> None:
        if self._requires_grad(tensor) != value:
            self._tracer.refuse(f"sets requires_grad to {value}")

    def _requires_grad_(self, original: Any, tensor: Tensor, requires_grad: bool = True) -> Tensor:
        del original
        self._set_requires_grad(tensor, requires_grad)
        return tensor

    def _history(self, name: str) -> Callable[[Tensor], Any]:
        get = getattr(TensorBase, name).__get__

        def read(tensor: Tensor) -> Any:
            if self._requires_grad(tensor):
                self._tracer.refuse(f"looks at Tensor.{name}")
            return get(tensor)

        return read

    def _set_grad(self, _tensor: Tensor, _value: Tensor | None) -> None:
        self._tracer.refuse("sets Tensor.grad")

    def _needing_history(self, name: str) -> Callable[..., Any]:
        def refuse(original: Any, tensor: Tensor, *args: Any, **kwargs: Any) -> Any:
            if self._requires_grad(tensor):
                self._tracer.refuse(f"calls Tensor.{name}, whose effect would be lost")
            return original(tensor, *args, **kwargs)

        return refuse

    # --- calls ------------------------------------------------------------------------------------------------------

    def _print(self, original: Any, *args: Any, **kwargs: Any) -> None:
        del original
        if any(isinstance(leaf, FakeTensor) for leaf in pytree.tree_leaves((args, kwargs))):
            self._tracer.refuse("prints a tensor that depends on the inputs")
        self.printed.append((tuple(map(str, args)), kwargs))

    def _log(self, original: Any, logger: logging.Logger, record: logging.LogRecord) -> None:
        if logger.name.partition(".")[0] != "torch":
            self._tracer.refuse("logs a message")
        original(logger, record)

    def _script(self, original: Any, function: Any, *args: Any, **kwargs: Any) -> Any:
        # TorchScript would turn symbolic sizes into numbers; the function that it was made from says the same.
        python = getattr(function, "_torchdynamo_inline", None)
        return original(function, *args, **kwargs) if python is None else python(*args, **kwargs)

    def _function(self, original: Any, function: type[torch.autograd.Function], name: str) -> Any:
        """Called for every attribute of a ``Function``; ``apply``, however it was got hold of, begins with this one."""
        if name == "_backward_cls":
            self._functions.close()
            # Without a dispatch mode, this is inside of another one.
            if torch.is_grad_enabled() and count_dispatch_modes():
                self._functions.enter_context(recorded_whole(self._tracer, function))
        return original(function, name)


def _generators() -> Iterator[tuple[Any, str]]:
    """The functions that draw from the global generators of Python and NumPy."""
    for name in random.__all__:
        if isinstance(getattr(getattr(random, name), "__self__", None), random.Random):
            yield random, name
    numpy = sys.modules.get("numpy.random")
    if numpy is not None:
        legacy = numpy.mtrand.RandomState
        for name in numpy.__all__:
            if isinstance(getattr(getattr(numpy, name), "__self__", None), legacy):
                yield numpy, name


def _same_place(a: Tensor, b: Tensor) -> bool:
    return (
        a.untyped_storage()._cdata == b.untyped_storage()._cdata
        and a.storage_offset() == b.storage_offset()
        and a.shape == b.shape
        and a.stride() == b.stride()
        and a.dtype == b.dtype
    )


def _as_number(name: str) -> Callable[..., Any]:
    """A symbolic size that becomes text is fixed to its value."""

    def pinned(original: Any, symbol: Any, *args: Any) -> Any:
        del original
        kind = int if isinstance(symbol, torch.SymInt) else float if isinstance(symbol, torch.SymFloat) else bool
        return getattr(kind(symbol), name)(*args)

    return pinned
