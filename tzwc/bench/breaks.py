"""How often ``torch.compile`` breaks a model's graph, and how often it compiles the same code again."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from tzwc._torch.dynamo import (
    COUNTERS,
    clear_compilation_metrics,
    get_compilation_metrics,
    set_compilation_metrics_limit,
)

__all__ = ["Breaks", "count_breaks", "quiet"]

_LIMIT = "recompile limit exceeded"  # as Dynamo explains it
_METRICS = 64  # that Dynamo keeps by default: of these models, a fraction


@dataclass(frozen=True)
class Breaks:
    """What Dynamo made of some calls of one model.

    Attributes:
        first: graphs that the first call gave to the backend.
        graphs: that all calls gave to it.
        pieces: compiled graphs that the second call with the same input ran, one after the other; what was given up
            ran in between and is not among them.
        recompilations: of code that it had compiled before, for other values.
        limits: functions given up because they had been compiled too often: they run in eager mode from then on.
    """

    first: int
    graphs: int
    pieces: int
    recompilations: int
    limits: int

    @property
    def breaks(self) -> int:
        """Graph breaks of the first call, as ``torch._dynamo.explain`` counts them: its graphs but one."""
        return max(self.first - 1, 0)

    def to_dict(self) -> dict[str, int]:
        """JSON-safe."""
        return {
            "graph breaks": self.breaks,
            "graphs": self.graphs,
            "pieces of a call": self.pieces,
            "recompilations": self.recompilations,
            "given up": self.limits,
        }


def count_breaks(model: nn.Module, inputs: Sequence[Tensor]) -> Breaks:
    """Compile a copy of ``model`` with a backend that only counts, and call it with each of ``inputs`` twice.

    Without gradients. What this process has compiled with ``torch.compile`` before is forgotten.

    Args:
        model: stays as it is, lazily initialised or not.
        inputs: the second and later ones may make Dynamo compile again.
    """
    graphs = runs = 0

    def backend(module: fx.GraphModule, examples: Sequence[Any]) -> Callable[..., Any]:
        del examples
        nonlocal graphs
        graphs += 1

        def counted(*arguments: Any) -> Any:
            nonlocal runs
            runs += 1
            return module.forward(*arguments)

        return counted

    own = copy.deepcopy(model)
    first = pieces = 0
    torch.compiler.reset()
    COUNTERS.clear()
    clear_compilation_metrics()
    set_compilation_metrics_limit(1_000_000)
    try:
        compiled = torch.compile(own, backend=backend)
        with torch.no_grad(), quiet():
            for number, x in enumerate(inputs):
                compiled(x)
                before = runs
                first = first if number else graphs
                compiled(x)
                pieces = pieces if number else runs - before
        again = sum(bool(metric.recompile_reason) for metric in get_compilation_metrics())
        limits = sum(times for reason, times in COUNTERS["unimplemented"].items() if _LIMIT in reason)
    finally:
        set_compilation_metrics_limit(_METRICS)
        torch.compiler.reset()
    return Breaks(first, graphs, pieces, again, limits)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep compilers' warnings from the terminal: what they are about is counted."""
    before = logging.root.manager.disable
    logging.disable(max(before, logging.WARNING))
    try:
        yield
    finally:
        logging.disable(before)
