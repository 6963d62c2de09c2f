"""A module that stands for another one: the same parameters, names, state and attributes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import nn
from typing_extensions import Self

from tzwc.util.rwlock import Gate

__all__ = ["SharedModule"]

_REGISTRIES = ("_parameters", "_buffers", "_modules", "_non_persistent_buffers_set")


class SharedModule(nn.Module):
    """Shares parameters, buffers and submodules with ``original``; what it lacks it takes from there.

    ``state_dict``, ``to``, ``train``, optimisers and attributes work on both at once and under the same names.

    Args:
        original: the module that this one stands for.
        own: attributes of this module itself, by name; everything else is read from and written to the original.
    """

    original: nn.Module
    _gate: Gate

    def __init__(self, original: nn.Module, **own: Any) -> None:
        super().__init__()
        for registry in _REGISTRIES:
            self.__dict__[registry] = getattr(original, registry)
        # Set past nn.Module, which would register the original as a submodule and prefix every name with it.
        self.__dict__.update(original=original, _gate=Gate(), **own)

    @contextmanager
    def updating(self) -> Iterator[None]:
        """Change any number of parameters as one change: calls in other threads run before all of it or after.

        ``load_state_dict`` and ``to`` of this module do so by themselves. It waits for running calls to return, and
        new calls wait for it.
        """
        with self._gate.writing():
            yield

    @property
    def training(self) -> bool:
        """The original's training flag."""
        return bool(self.original.training)

    @training.setter
    def training(self, mode: bool) -> None:
        original = self.__dict__.get("original")
        if original is not None:  # nn.Module's constructor sets the flag before there is an original
            original.training = mode

    def train(self, mode: bool = True) -> Self:
        """Set the training flag of the original and of its submodules."""
        self.original.train(mode)
        return self

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if "original" not in self.__dict__:
                raise
            return getattr(self.original, name)

    def __setattr__(self, name: str, value: Any) -> None:
        # ``__class__`` and its like belong to the wrapper: fully_shard gives modules another class.
        own = name == "training" or name.startswith("__") or name in self.__dict__
        if own or "original" not in self.__dict__:
            super().__setattr__(name, value)
        else:
            setattr(self.original, name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self.original, name)

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Self:
        with self.updating():
            self.original._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self

    def _replicate_for_data_parallel(self) -> nn.Module:
        """A replica of the original, with the hooks of both.

        ``DataParallel`` replaces parameters, buffers and submodules of what it gets. It gets no wrapper, which would
        hand these on to the original.
        """
        replica: nn.Module = self.original._replicate_for_data_parallel()  # type: ignore[no-untyped-call]
        for name, own in self.__dict__.items():
            if name.endswith(("_hooks", "_hooks_with_kwargs", "_hooks_always_called")) and own:
                theirs = replica.__dict__[name]
                inner, outer = (own, theirs) if "pre" in name else (theirs, own)  # the wrapper's are the outer ones
                replica.__dict__[name] = type(theirs)({**inner, **outer})
        return replica

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """The original's state dict, under the original's names."""
        return self.original.state_dict(*args, **kwargs)

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Load into the original, as one change to other threads."""
        with self.updating():
            return self.original.load_state_dict(state_dict, strict, assign)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        self.original._load_from_state_dict(*args, **kwargs)

    def get_extra_state(self) -> Any:
        """The original's extra state."""
        return self.original.get_extra_state()

    def set_extra_state(self, state: Any) -> None:
        """Set the original's extra state."""
        self.original.set_extra_state(state)

    def get_submodule(self, target: str) -> nn.Module:
        """The original's submodule of that dotted name."""
        return self.original.get_submodule(target)

    def __getitem__(self, index: Any) -> Any:
        return self.original[index]  # type: ignore[index]

    def __len__(self) -> int:
        return len(self.original)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[Any]:
        return iter(self.original)  # type: ignore[call-overload, no-any-return]

    def __bool__(self) -> bool:
        return bool(self.original)
