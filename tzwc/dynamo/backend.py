"""The backend that ``torch.compile`` knows as ``"tzwc"``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import fx

from tzwc._torch.dynamo import ShortenTraceback
from tzwc._torch.inductor import list_mode_options
from tzwc.dynamo.compiled_graph import CompiledGraph
from tzwc.errors import InvalidArgumentError
from tzwc.options import CompileOptions
from tzwc.passes import DEFAULT_PASSES, by_name

__all__ = ["NAMES", "InvalidOptionError", "backend", "inductor_settings", "settings_of"]

NAMES = ("backend", "cache_bytes", "check", "convolution", "exact", "keep_buffers", "passes", "tune", "verify")
"""The options of ``tzwc.compile`` that mean something here; sizes and the number of graphs are Dynamo's to decide."""


def backend(
    module: fx.GraphModule,
    examples: Sequence[Any],
    *,
    options: Mapping[str, Any] | None = None,
    mode: str | None = None,
) -> Callable[..., Any]:
    """Compile one of Dynamo's graphs; ``torch.compile(model, backend="tzwc", options=...)`` calls it.

    Args:
        module: the graph.
        examples: arguments like those that it will be called with.
        options: ``passes``, ``backend`` (what lowers the rewritten graph), ``cache_bytes``, ``check``,
            ``convolution``, ``tune``, ``exact``, ``keep_buffers`` and ``verify``, as for :func:`tzwc.compile`.
        mode: of ``torch.compile``; for Inductor, which ``backend`` is unless something else was chosen.

    Raises:
        InvalidArgumentError: an option is unknown or cannot be used. Nothing else is raised: a graph that cannot be
            rewritten is left to the inner backend, with a remark (:func:`tzwc.dynamo.compiled_graphs`).
    """
    return CompiledGraph(module, examples, settings_of(options), inductor_settings(mode))


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
    if given.get("backend") in ("tzwc", backend):
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
    known: dict[str, dict[str, Any]] = list_mode_options()
    if mode not in known:
        raise InvalidOptionError(f"mode={mode!r} is not one of {sorted(known)}")
    return dict(known[mode])
