"""What ``torch.compile(..., backend="tzwc", options={...}, mode=...)`` may be given."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch._dynamo.exc import ShortenTraceback

from tzwc.errors import InvalidArgumentError
from tzwc.options import CompileOptions
from tzwc.passes import DEFAULT_PASSES, by_name

__all__ = ["NAMES", "InvalidOptionError", "inductor_settings", "settings_of"]

NAMES = ("backend", "cache_bytes", "check", "convolution", "exact", "keep_buffers", "passes", "tune", "verify")
"""The options of ``tzwc.compile`` that mean something here; sizes and the number of graphs are Dynamo's to decide."""


class InvalidOptionError(InvalidArgumentError, ShortenTraceback):
    """An option cannot be used. Dynamo hands errors of this kind on as they are, instead of wrapping them."""

    def __init__(self, message: str) -> None:
        ShortenTraceback.__init__(self, message, first_useful_frame=None)


def settings_of(options: Mapping[str, Any] | None) -> CompileOptions:
    """The options, validated.

    Raises:
        InvalidOptionError: one is unknown or has a value that cannot be used.
    """
    given = dict(options or {})
    unknown = sorted(given.keys() - set(NAMES))
    if unknown:
        raise InvalidOptionError(f"unknown option {unknown[0]!r}; choose from {list(NAMES)}")
    if given.get("backend") in ("tzwc", _this_backend()):
        raise InvalidOptionError("backend='tzwc' inside of itself; give what is to lower the rewritten graph")
    passes = given.pop("passes", None)
    try:
        chosen = DEFAULT_PASSES if passes is None else [by_name(p) if isinstance(p, str) else p for p in passes]
        return CompileOptions(passes=tuple(chosen), **given)
    except InvalidArgumentError as error:
        raise InvalidOptionError(str(error)) from error


def inductor_settings(mode: str | None) -> dict[str, Any]:
    """Inductor's configuration for the ``mode`` of ``torch.compile``.

    Raises:
        InvalidOptionError: there is no such mode.
    """
    if mode is None or mode == "default":
        return {}
    known: dict[str, dict[str, Any]] = torch._inductor.list_mode_options()
    if mode not in known:
        raise InvalidOptionError(f"mode={mode!r} is not one of {sorted(known)}")
    return dict(known[mode])


def _this_backend() -> Any:
    from tzwc.dynamo.backend import backend  # it imports this module

    return backend
