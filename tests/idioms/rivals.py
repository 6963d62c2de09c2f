"""What is compared with eager: ``tzwc``, ``torch.compile``, ``torch.export``, and eager itself."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

import tzwc
from tests.idioms.comparison import resolve

__all__ = ["Compiled", "Eager", "Exported", "Tzwc"]


class Eager:
    """The model itself; to be found equal, or the comparison is at fault."""

    def __init__(self, model: nn.Module) -> None:
        self.state = model

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.state(*args, **kwargs)

    def effect(self, path: str) -> Any:
        return resolve(self.state, path)

    def moved(self) -> None:
        pass


class Tzwc(Eager):
    """``tzwc.compile``, with the attributes read from what it returns."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        self.fast = tzwc.compile(model, backend="eager")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.fast(*args, **kwargs)

    def effect(self, path: str) -> Any:
        return resolve(self.fast, path)

    @property
    def level(self) -> str:
        """The fall-back level of the newest specialisation for evaluation."""
        return str(getattr(self.fast, "level", "no level is reported"))


class Compiled(Eager):
    """``torch.compile(fullgraph=True)``."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        torch._dynamo.reset()
        self.compiled = torch.compile(model, backend="eager", fullgraph=True)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.compiled(*args, **kwargs)


class Exported(Eager):
    """``torch.export`` after one call of the model itself, with a dynamic batch; once for each mode.

    What was changed in the model from outside is copied to the exported program, as far as that has a place for it.
    An effect that the exported program does not have is read from the model.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        self.model = model
        self.called = False
        self.programs: dict[bool, nn.Module] = {}

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not self.called:
            self.called = True
            return self.model(*args, **kwargs)
        mode = self.model.training
        if mode not in self.programs:
            self.programs[mode] = self._export(args, kwargs)
            self._copy()
        self.state = self.programs[mode]
        return self.state(*args, **kwargs)

    def _export(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> nn.Module:
        batch = {0: torch.export.Dim.AUTO}
        shapes = pytree.tree_map(lambda leaf: dict(batch) if isinstance(leaf, Tensor) else None, (args, kwargs))
        program = torch.export.export(
            self.model, args, kwargs, strict=False, dynamic_shapes=cast("Any", _by_name(self.model, *shapes))
        )
        return program.module(check_guards=False)

    def moved(self) -> None:
        self._copy()

    def _copy(self) -> None:
        theirs = dict(self.model.state_dict())
        with torch.no_grad():
            for program in self.programs.values():
                for name, value in program.state_dict().items():
                    if name in theirs and theirs[name].shape == value.shape:
                        value.copy_(theirs[name])

    def effect(self, path: str) -> Any:
        try:
            return resolve(self.state, path)
        except (AttributeError, KeyError, IndexError):
            return resolve(self.model, path)


def _by_name(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Dynamic shapes are given by the names of the arguments as soon as there are keywords."""
    return args if not kwargs else {**dict(zip(_names(model), args, strict=False)), **kwargs}


def _names(model: nn.Module) -> list[str]:
    code = type(model).forward.__code__
    return list(code.co_varnames[1 : code.co_argcount])
