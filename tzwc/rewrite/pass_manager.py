"""Passes, and the pipeline that runs them one after the other and remembers every stage."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import fx

from tzwc.errors import IllFormedGraphError, InvalidArgumentError
from tzwc.ir.graph import location, remove_dead_code
from tzwc.ir.logs import log_remarks, passes_log
from tzwc.ir.remarks import Remark, RemarkKind
from tzwc.ir.snapshot import Snapshot, StageRecord, snapshot

__all__ = ["Pass", "PassContext", "Rewrite", "StageRecord", "run_pass", "run_pipeline", "snapshot"]


@dataclass
class PassContext:
    """What a pass may know, and where it speaks.

    Attributes:
        pass_name: the running pass.
        options: options of ``tzwc.compile`` that passes read, by name (``cache_bytes``, ``convolution``…).
        static_slots: names of the placeholders whose tensors may be treated as constant between changes.
        remarks: everything said so far.
        chooser: which rewrites to make; all when it is ``None``.
    """

    pass_name: str
    options: Mapping[str, Any]
    static_slots: frozenset[str]
    remarks: list[Remark] = field(default_factory=list)
    chooser: Callable[[Rewrite], bool] | None = None

    def admits(self, rule: str, nodes: Sequence[fx.Node]) -> bool:
        """Whether ``rule`` may rewrite ``nodes`` now; a pass that does not ask cannot be bisected.

        It always may, except while :func:`tzwc.bisect` looks for the rewrite that does harm.
        """
        return self.chooser is None or self.chooser(Rewrite(rule, nodes[0].name))

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
class Rewrite:
    """One place where a pass wants to change the graph.

    Attributes:
        rule: the rule within the pass.
        node: name of the first node concerned, in the graph as it is then.
    """

    rule: str
    node: str

    def __str__(self) -> str:
        return f"{self.rule}@{self.node}"


def run_pass(module: fx.GraphModule, step: Pass, context: PassContext) -> float:
    """Run one pass on ``module`` in place; the seconds that it took.

    Raises:
        IllFormedGraphError: it left a graph that is none.
    """
    start = time.perf_counter()
    step.run(module, context)
    remove_dead_code(module.graph)
    try:
        module.graph.lint()
        _check_placeholders(module.graph)
    except (RuntimeError, AssertionError) as error:
        raise IllFormedGraphError(f"pass {step.name!r} left an ill-formed graph: {error}") from error
    return time.perf_counter() - start


def run_pipeline(
    module: fx.GraphModule,
    passes: Sequence[Pass],
    *,
    options: Mapping[str, Any],
    static_slots: frozenset[str],
    slots: Mapping[str, str] | None = None,
    snapshots: bool = True,
) -> list[StageRecord]:
    """Run ``passes`` in order on ``module`` in place and return the stages, the captured graph first.

    Args:
        slots: dotted parameter or buffer name by placeholder name, for the stages.
        snapshots: remember the graph after every pass; otherwise there is one stage, called as the last pass, with
            the final graph and all remarks.

    Raises:
        InvalidArgumentError: two passes have the same name.
        PassError: a pass left an ill-formed graph; the message names it.
    """
    names = [p.name for p in passes]
    if len(set(names)) != len(names):
        raise InvalidArgumentError(f"passes={names!r} names a pass twice; give each pass once")
    paths = dict(slots or {})
    last = Snapshot(module.graph) if snapshots else None
    stages = [] if last is None else [StageRecord("capture", last, root=module, slots=paths)]
    said: list[Remark] = []
    total = 0.0
    for step in passes:
        context = PassContext(step.name, options, static_slots)
        seconds = run_pass(module, step, context)
        passes_log.info("%s: %d nodes after %.1f ms", step.name, len(module.graph.nodes), seconds * 1e3)
        log_remarks(context.remarks)
        if last is None:
            said += context.remarks
            total += seconds
            continue
        now = Snapshot(module.graph)
        last = last if now.same(last) else now
        stages.append(StageRecord(step.name, last, tuple(context.remarks), seconds, module, paths))
    module.recompile()
    if not snapshots:
        stages = [StageRecord(names[-1] if names else "capture", module.graph, tuple(said), total, module, paths)]
    return stages


def _check_placeholders(graph: fx.Graph) -> None:
    targets = [node.target for node in graph.nodes if node.op == "placeholder"]
    twice = {target for target in targets if targets.count(target) > 1}
    if twice:
        raise RuntimeError(f"it has several placeholders called {sorted(map(str, twice))}")
