"""What a checkpoint says besides its tensors, checked before it is used: the file may come from anywhere."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from tzwc.data import Normalisation
from tzwc.models import TerminatorSpec
from tzwc.models.extent import parameter_count
from tzwc.util.argument_checks import shown

__all__ = ["check_mates", "check_metadata", "check_size", "read_header", "read_normalisation"]

_RUNNING = {"loss", "right"}


def read_header(content: bytes) -> dict[str, str]:
    """The metadata of a whole safetensors file: its first eight bytes say how long the JSON is that follows."""
    length = int.from_bytes(content[:8], "little")
    found: dict[str, str] = json.loads(content[8 : 8 + length]).get("__metadata__") or {}
    return found


def check_metadata(metadata: Mapping[str, Any]) -> None:
    """Check what has no class of its own to check it: progress, log, and the optimiser's numbers.

    Raises:
        ValueError: a field holds what training never writes; the message names it.
    """
    _require(isinstance(metadata["data"], str), "data", metadata["data"], "the name of a data set")
    step, seconds = metadata["step"], metadata["seconds"]
    _require(type(step) is int and step >= 0, "step", step, "an integer of at least 0")
    _require(_number(seconds) and seconds >= 0, "seconds", seconds, "a number of at least 0")
    running, history = metadata["running"], metadata["history"]
    _require(_numbers(running) and set(running) == _RUNNING, "running", running, "numbers 'loss' and 'right'")
    good = isinstance(history, list) and all(_numbers(row) and set(row) == set(history[0]) for row in history)
    _require(good, "history", history, "rows of the same numbers")
    optimizer = metadata["optimizer"]
    good = isinstance(optimizer, dict) and set(optimizer) == {"values", "groups"}
    good = good and isinstance(optimizer["groups"], list) and all(isinstance(g, dict) for g in optimizer["groups"])
    good = good and isinstance(optimizer["values"], dict)
    good = good and all(key.isdecimal() and isinstance(value, dict) for key, value in optimizer["values"].items())
    _require(good, "optimizer", optimizer, "'groups' and 'values'")


def read_normalisation(pair: Any) -> Normalisation:
    """The normalisation from its two lists.

    Raises:
        ValueError: they are not means and positive deviations, one a channel.
    """
    good = isinstance(pair, list) and len(pair) == 2 and all(isinstance(part, list) for part in pair)
    good = good and len(pair[0]) == len(pair[1]) > 0 and all(_number(value) for part in pair for value in part)
    _require(good and min(pair[1]) > 0, "normalisation", pair, "means and positive deviations, one a channel")
    return Normalisation(tuple(pair[0]), tuple(pair[1]))


def check_mates(mates: Tensor, normalisation: Normalisation, sample: Sequence[int] | None) -> None:
    """Check the stored training samples ``(n c …)``.

    Args:
        mates: the samples.
        normalisation: theirs.
        sample: the shape ``(c …)`` of what the model reads, if it is known.

    Raises:
        ValueError: they are no samples of that shape, or have another number of channels than the normalisation.
    """
    shape = tuple(mates.shape)
    good = mates.ndim >= 3 and len(mates) > 0 and sample in (None, shape[1:])
    _require(good, "mates", shape, "samples of " + ("any shape" if sample is None else f"{tuple(sample)}"))
    channels = len(normalisation.mean)
    _require(channels in (1, shape[1]), "normalisation", channels, f"one mean for each of {shape[1]} channels")


def check_size(spec: TerminatorSpec, tensors: Mapping[str, Tensor]) -> None:
    """Raise where a declaration is larger than what is stored with it, before memory is taken for it.

    Raises:
        ValueError: it is.
    """
    stored = sum(tensor.numel() for tensor in tensors.values())
    declared = parameter_count(spec)
    expected = f"a model of {stored:,} parameters, as many as are stored, not {declared:,}"
    _require(declared <= stored, "spec", spec, expected)


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and not math.isinf(value)


def _numbers(value: Any) -> bool:
    # A loss may have become NaN; that is for its owner to see.
    return isinstance(value, dict) and all(_number(entry) for entry in value.values())


def _require(condition: bool, field: str, value: object, expected: str) -> None:
    if not condition:
        raise ValueError(f"{field} = {shown(value, 80)}: expected {expected}")
