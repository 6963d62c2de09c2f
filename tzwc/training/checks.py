"""What a checkpoint's metadata may be, wherever they come from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from tzwc.data import Normalisation
from tzwc.models import SlowNetSpec, TerminatorSpec

__all__ = ["check_metadata", "check_size", "read_normalisation"]

_LARGEST = 2**53
"""Steps and other counts, which JSON's readers elsewhere would round beyond."""


def check_metadata(metadata: Mapping[str, Any], mates: Tensor) -> None:
    """Raise unless everything that is not declared elsewhere has its type.

    Raises:
        KeyError, ValueError: it does not; the message names the field.
    """
    _require(isinstance(metadata["data"], str), "data", "the name of a data set")
    _require(_is_number(metadata["step"]) and isinstance(metadata["step"], int), "step", "a count")
    _require(_is_number(metadata["seconds"]), "seconds", "a number of at least 0")
    running = metadata["running"]
    _require(isinstance(running, dict) and {*running} == {"loss", "right"}, "running", "loss and right")
    _require(all(_is_float(value) for value in running.values()), "running", "numbers")
    history = metadata["history"]
    _require(isinstance(history, list) and all(isinstance(row, dict) for row in history), "history", "a list of rows")
    for row in history:
        _require({*row} == {*history[0]} and all(map(_is_float, row.values())), "history", "rows of the same numbers")
    optimizer = metadata["optimizer"]
    _require(isinstance(optimizer, dict) and {*optimizer} == {"values", "groups"}, "optimizer", "values and groups")
    _require(isinstance(optimizer["groups"], list), "optimizer", "a list of groups")
    _require(all(isinstance(group, dict) for group in optimizer["groups"]), "optimizer", "groups that are mappings")
    values = optimizer["values"]
    _require(isinstance(values, dict) and all(key.isdecimal() for key in values), "optimizer", "values by number")
    _require(all(isinstance(entry, dict) for entry in values.values()), "optimizer", "values that are mappings")
    _require(mates.ndim >= 3 and len(mates) >= 1, "mates", "samples (n c …)")
    _require(mates.dtype == torch.uint8 or mates.dtype.is_floating_point, "mates", "bytes or floats")


def read_normalisation(found: object, channels: int) -> Normalisation:
    """One mean and one deviation a channel, or one for all.

    Raises:
        ValueError: it is something else.
    """
    _require(isinstance(found, list) and len(found) == 2, "normalisation", "means and deviations")
    assert isinstance(found, list)
    for numbers in found:
        usable = isinstance(numbers, list) and len(numbers) in (1, channels) and all(map(_is_float, numbers))
        _require(usable, "normalisation", f"one number, or {channels}")
    mean, std = found
    _require(all(value > 0 for value in std), "normalisation", "deviations above 0")
    return Normalisation(tuple(mean), tuple(std))


def check_size(spec: TerminatorSpec, tensors: Mapping[str, Tensor], mates: Tensor) -> None:
    """Raise where a declaration is larger than what is stored with it, before memory is taken for it.

    Raises:
        ValueError: it is; or the samples have another shape.
    """
    sample = (spec.in_channels, *spec.sizes)
    _require(tuple(mates.shape[1:]) == sample, "mates", f"samples of shape {sample}, as the declaration says")
    longest = max((size for tensor in tensors.values() for size in tensor.shape), default=0)
    nets = [net for net in vars(spec).values() if isinstance(net, SlowNetSpec)]
    layers = [net.layers_of(block) for net in nets for block in range(min(spec.blocks, len(tensors)))]
    sizes = [*spec.sizes, *spec.channels, spec.classes, *(net.hidden for net in nets)]
    sizes += [branch.kernel_size for branch in spec.local]
    small = max(sizes) <= longest and max([spec.blocks, *layers]) <= len(tensors)
    _require(small, "spec", "a model of the size of the stored parameters")


def _require(condition: bool, field: str, expected: str) -> None:
    if not condition:
        raise ValueError(f"{field}: expected {expected}")


def _is_float(value: object) -> bool:
    """A diverged training has losses that are no numbers any more."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and not abs(value) > _LARGEST**16


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < _LARGEST
