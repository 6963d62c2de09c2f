"""Make models and inputs from what was typed on a command line."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import nn

from tzwc.errors import InvalidArgumentError, TzwcError
from tzwc.models import PRESETS, Terminator, terminator
from tzwc.util.argument_checks import exact, examined, shown
from tzwc.util.import_path import load_attribute, near_miss
from tzwc.util.system_memory import too_large

__all__ = ["DTYPES", "InputSpec", "default_inputs", "parse_dtype", "resolve"]

DTYPES = {
    "float32": torch.float32,
    "float64": torch.float64,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "complex64": torch.complex64,
    "int64": torch.int64,
    "int32": torch.int32,
    "bool": torch.bool,
}
"""Element types by the name that the command line knows."""


@dataclass(frozen=True)
class InputSpec:
    """Shape and element type of one input; ``dtype`` is ``None`` for that of the model."""

    shape: tuple[int, ...]
    dtype: torch.dtype | None = None

    @classmethod
    @examined("text")
    def parse(cls, text: str) -> InputSpec:
        """Read ``16x3x32x32`` or ``8x128:int64``.

        Raises:
            InvalidArgumentError: ``text`` is neither.
        """
        text = exact(text)
        pattern = r"([1-9][0-9]{0,11}(?:x[1-9][0-9]{0,11})*)(?::(\w+))?"
        found = re.fullmatch(pattern, text) if isinstance(text, str) else None
        if found is None:
            raise InvalidArgumentError(
                f"{shown(text)}: expected sizes joined by x, such as 16x3x32x32, and a dtype if need be: 8x128:int64"
            )
        sizes, dtype = found.groups()
        return cls(tuple(map(int, sizes.split("x"))), parse_dtype(dtype) if dtype else None)

    def make(self, dtype: torch.dtype, generator: torch.Generator) -> torch.Tensor:
        """A tensor with normally distributed values; integers and booleans are 0 or 1.

        Raises:
            InvalidArgumentError: it does not fit into memory.
        """
        wanted = self.dtype or dtype
        reason = too_large(math.prod(self.shape) * (torch.float64.itemsize + wanted.itemsize))
        if reason is not None:
            raise InvalidArgumentError(f"an input of {self} {reason}: give smaller sizes")
        if wanted.is_floating_point or wanted.is_complex:
            return torch.randn(self.shape, generator=generator, dtype=torch.float64).to(wanted)
        return torch.randint(0, 2, self.shape, generator=generator).to(wanted)

    def __str__(self) -> str:
        dtype = "" if self.dtype is None else f":{str(self.dtype).removeprefix('torch.')}"
        return "x".join(map(str, self.shape)) + dtype


@examined("name")
def parse_dtype(name: str) -> torch.dtype:
    """The element type called ``name``.

    Raises:
        InvalidArgumentError: there is none; the message lists them.
    """
    name = exact(name)
    if not isinstance(name, str) or name not in DTYPES:
        raise InvalidArgumentError(f"dtype {shown(name)} is unknown: {_choices(name, DTYPES)}")
    return DTYPES[name]


@examined("target")
def resolve(target: str) -> nn.Module:
    """The model that ``target`` names.

    Args:
        target: a preset, or ``package.module:attribute``, where the module is looked for in the working directory
            too and the attribute is a model or is called without arguments to make one.

    Raises:
        InvalidArgumentError: nothing of that name, or it is no model.
        TzwcError: the module or the factory raised an exception (it is the cause of this one).
    """
    target = exact(target)
    if not isinstance(target, str):
        raise InvalidArgumentError(f"{shown(target)} is a {type(target).__name__}: expected a preset or module:factory")
    if ":" not in target:
        return _preset(target)
    made = load_attribute(target)
    if callable(made) and not isinstance(made, nn.Module):
        try:
            made = made()
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            raise TzwcError(f"{target} could not be called without arguments ({reason})") from error
    if not isinstance(made, nn.Module):
        raise InvalidArgumentError(f"{target!r} gives a {type(made).__name__}: expected a torch.nn.Module")
    return made


def default_inputs(model: nn.Module) -> list[InputSpec]:
    """A batch of 16 for a model that declares its sizes.

    Raises:
        InvalidArgumentError: it does not.
    """
    if isinstance(model, Terminator):
        return [InputSpec((16, model.spec.in_channels, *model.spec.sizes))]
    name = type(model).__name__
    raise InvalidArgumentError(f"{name} does not say what it takes: give the sizes of every input, 16x3x32x32")


def _preset(name: str) -> Terminator:
    if name in PRESETS:
        return terminator(name)
    hint = _choices(name, PRESETS)
    raise InvalidArgumentError(f"preset {name!r} is unknown: {hint}; or a model of your own as module:factory")


def _choices(name: str, choices: Iterable[str]) -> str:
    names = list(choices)
    return f"choose one of {', '.join(names)}{near_miss(name, names)}"
