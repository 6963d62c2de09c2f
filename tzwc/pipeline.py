"""Passes, and the pipeline that runs them one after the other and remembers every stage."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import fx

from tzwc.errors import InvalidArgumentError, PassError
from tzwc.graph import location, remove_dead_code
from tzwc.remarks import Remark, RemarkKind

__all__ = ["Pass", "PassContext", "Stage", "run_pipeline"]


@dataclass
class PassContext:
    """What a pass may know, and where it speaks.

    Attributes:
        pass_name: the running pass.
        options: options of ``tzwc.compile`` that passes read, by name (``cache_bytes``, ``convolution``…).
        static_slots: names of the placeholders whose tensors may be treated as constant between changes.
        remarks: everything said so far.
    """

    pass_name: str
    options: Mapping[str, Any]
    static_slots: frozenset[str]
    remarks: list[Remark] = field(default_factory=list)

    def remark(
        self,
        kind: RemarkKind,
        rule: str,
        reason: str,
        nodes: Sequence[fx.Node] = (),
        **numbers: float | int | str,
    ) -> None:
        """Record that ``rule`` was applied or declined at ``nodes`` (the first one gives the location)."""
        where = {"location": location(nodes[0])} if nodes else {}
        self.remarks.append(
            Remark(self.pass_name, kind, rule, reason, tuple(n.name for n in nodes), numbers=numbers, **where)
        )


@dataclass(frozen=True)
class Pass:
    """One step of the pipeline.

    Attributes:
        name: unique, lower case with underscores.
        summary: one sentence for ``tzwc passes``.
        run: rewrites the graph in place and speaks through the context. It must leave the values of all outputs
            and all side effects as they were, and decline with a remark where it cannot prove that.
    """

    name: str
    summary: str
    run: Callable[[fx.GraphModule, PassContext], None]


@dataclass(frozen=True)
class Stage:
    """The graph after one pass.

    Attributes:
        name: the pass, or ``"capture"`` for the graph as captured.
        graph: a copy that nothing changes any more; its nodes carry the metadata described in ``tzwc.graph``.
        remarks: what the pass said.
        seconds: wall time of the pass.
    """

    name: str
    graph: fx.Graph
    remarks: tuple[Remark, ...]
    seconds: float


def snapshot(graph: fx.Graph) -> fx.Graph:
    """A copy of ``graph`` that shares metadata values but none of the nodes."""
    copy = fx.Graph()
    output = copy.graph_copy(graph, {})
    copy.output(output)
    return copy


def run_pipeline(
    module: fx.GraphModule,
    passes: Sequence[Pass],
    *,
    options: Mapping[str, Any],
    static_slots: frozenset[str],
) -> list[Stage]:
    """Run ``passes`` in order on ``module`` in place and return the stages, the captured graph first.

    Raises:
        InvalidArgumentError: two passes have the same name.
        PassError: a pass left an ill-formed graph; the message names it.
    """
    names = [p.name for p in passes]
    if len(set(names)) != len(names):
        raise InvalidArgumentError(f"passes={names!r} names a pass twice; give each pass once")
    stages = [Stage("capture", snapshot(module.graph), (), 0.0)]
    for step in passes:
        context = PassContext(step.name, options, static_slots)
        start = time.perf_counter()
        step.run(module, context)
        remove_dead_code(module.graph)
        try:
            module.graph.lint()
            _check_placeholders(module.graph)
        except (RuntimeError, AssertionError) as error:
            raise PassError(f"pass {step.name!r} left an ill-formed graph: {error}") from error
        seconds = time.perf_counter() - start
        stages.append(Stage(step.name, snapshot(module.graph), tuple(context.remarks), seconds))
    module.recompile()
    return stages


def _check_placeholders(graph: fx.Graph) -> None:
    targets = [node.target for node in graph.nodes if node.op == "placeholder"]
    twice = {target for target in targets if targets.count(target) > 1}
    if twice:
        raise RuntimeError(f"it has several placeholders called {sorted(map(str, twice))}")
