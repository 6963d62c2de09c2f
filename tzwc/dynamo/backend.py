"""The backend that ``torch.compile`` knows as ``"tzwc"``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import fx

from tzwc.dynamo.compiled_graph import CompiledGraph
from tzwc.dynamo.settings import inductor_settings, settings_of

__all__ = ["backend"]


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
