"""``tzwc.bisect``: the first pass, and within it the smallest set of rewrites, that does harm."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from torch import Tensor, fx, nn

from tzwc.debug.reference import Subject, gap
from tzwc.debug.repro_script import script
from tzwc.debug.verify import trial_of
from tzwc.errors import IllFormedGraphError
from tzwc.inspection import Stage
from tzwc.inspection.diff import diff
from tzwc.inspection.report.document import Block, Bullets, Facts, Heading, Paragraph, Presented
from tzwc.inspection.report.report import json_safe
from tzwc.ir.graph import location
from tzwc.ir.remarks import Location
from tzwc.ir.snapshot import copy_graph
from tzwc.rewrite.pass_manager import Pass, PassContext, Rewrite, run_pass

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType

__all__ = ["Bisection", "bisect", "smallest"]

T = TypeVar("T")


@dataclass(frozen=True)
class Bisection(Presented):
    """What was found; print it, show it with rich, or take it as Markdown or as a dictionary.

    Attributes:
        model: class of the model.
        tolerance: distance from the reference that was allowed.
        pass_name: the first pass that does harm; ``"capture"`` when the captured graph itself does, ``None`` when
            nothing does.
        kind: ``"numbers"``, ``"the pass raises"``, ``"ill-formed graph"`` or ``"does not run"``; empty if all is
            well.
        detail: the distance or the error, with the smallest set of rewrites.
        rewrites: that set: without any one of them, the harm is gone. Empty when the pass does it without asking
            :meth:`tzwc.rewrite.pass_manager.PassContext.admits`.
        locations: where they are in the user's program.
        candidates: rewrites that the pass makes in all.
        trials: how often graphs were rewritten and run.
        before: the graph before the pass.
        after: the graph after the smallest set of rewrites; ``None`` when the pass fails.
        script: Python text that shows the harm again.
    """

    model: str
    tolerance: float
    pass_name: str | None = None
    kind: str = ""
    detail: str = ""
    rewrites: tuple[Rewrite, ...] = ()
    locations: tuple[Location, ...] = ()
    candidates: int = 0
    trials: int = 0
    before: Stage | None = field(default=None, repr=False, compare=False)
    after: Stage | None = field(default=None, repr=False, compare=False)
    script: str = field(default="", repr=False)

    @property
    def ok(self) -> bool:
        """Whether nothing does harm."""
        return self.pass_name is None

    def blocks(self) -> list[Block]:
        """What was found as blocks of :mod:`tzwc.inspection.report.document`, without the script."""
        title = Heading(f"bisect: {self.model}", 1)
        if self.pass_name is None:
            return [title, Paragraph(f"Every stage runs, within {self.tolerance:.1e} of the largest value.")]
        facts = (
            ("first", f"{self.pass_name} ({self.kind})"),
            ("shows as", self.detail),
            ("rewrites", f"{len(self.rewrites)} of {self.candidates:,} are needed for it; {self.trials} trials"),
        )
        blocks: list[Block] = [title, Facts(facts)]
        places = zip(self.rewrites, self.locations, strict=True)
        if self.rewrites:
            blocks.append(Bullets(tuple((str(rewrite), (str(where),)) for rewrite, where in places)))
        elif self.pass_name != "capture":
            blocks.append(Paragraph("The pass does so without any rewrite that it asks for (PassContext.admits)."))
        return blocks

    def __str__(self) -> str:
        return super().__str__() + self._change()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        yield from super().__rich_console__(console, options)
        if self.after is not None:
            from rich.text import Text

            yield Text(self._change())

    def _change(self) -> str:
        return f"\n{diff(self.before, self.after)}" if self.before is not None and self.after is not None else ""

    def to_markdown(self) -> str:
        """What was found as GitHub-flavoured Markdown, with the script."""
        script = f"\n```python\n{self.script}```\n" if self.script else ""
        return super().to_markdown() + script

    def to_dict(self) -> dict[str, Any]:
        """Everything but the graphs, as JSON-safe data."""
        names = ("model", "tolerance", "pass_name", "kind", "detail", "locations", "candidates", "trials", "script")
        facts = {name: getattr(self, name) for name in names}
        result: dict[str, Any] = json_safe({**facts, "rewrites": list(map(str, self.rewrites)), "ok": self.ok})
        return result


@dataclass(frozen=True)
class _Outcome:
    kind: str
    detail: str
    rewrites: tuple[Rewrite, ...]
    graph: fx.Graph | None


def bisect(
    model: nn.Module,
    inputs: Tensor | Sequence[Any],
    *,
    kwargs: Mapping[str, Any] | None = None,
    passes: Sequence[Pass | str] | None = None,
    tolerance: float | None = None,
    setup: str = "",
    **options: Any,
) -> Bisection:
    """Find the first pass after which the graph fails or is further from float64 than ``tolerance``, and why.

    Then the pass runs again and again on the graph before it, each time with other rewrites (delta debugging), until a
    set is left of which each member is needed.

    Args:
        model, inputs, kwargs, passes, tolerance: as for :func:`tzwc.verify`.
        setup: Python text that defines ``model`` and ``inputs``, for the script.
        **options: as for :func:`tzwc.compile`; every graph is lowered with ``backend`` (here ``"eager"`` by default).

    Raises:
        InvalidArgumentError: an argument cannot be used.
        CaptureError: the model cannot be captured.
    """
    chosen, trial, bound = trial_of(model, inputs, kwargs, passes, tolerance, options)
    name = type(model).__name__
    runner = _Runner(trial, bound)
    slots = {slot.name: slot.path for slot in trial.captured.slots}
    graph = trial.captured.module.graph
    outcome = runner.judge(fx.GraphModule(trial.captured.module, copy_graph(graph)), ())
    if outcome.kind:
        stage = Stage("capture", graph, root=trial.captured.module, slots=slots)
        return Bisection(name, bound, "capture", outcome.kind, outcome.detail, trials=runner.trials, before=stage)
    for position, step in enumerate(chosen.passes):
        outcome = runner.attempt(step, graph, None)
        if not outcome.kind:
            assert outcome.graph is not None
            graph = outcome.graph
            continue
        kind, candidates = outcome.kind, tuple(dict.fromkeys(outcome.rewrites))
        seen: dict[frozenset[Rewrite], _Outcome] = {}

        def fails(
            chosen_: Sequence[Rewrite],
            step: Pass = step,
            graph: fx.Graph = graph,
            seen: dict[frozenset[Rewrite], _Outcome] = seen,
            kind: str = kind,
        ) -> bool:
            key = frozenset(chosen_)
            if key not in seen:
                seen[key] = runner.attempt(step, graph, key)
            return seen[key].kind == kind

        needed = smallest(candidates, fails)
        last = seen.get(frozenset(needed), outcome)
        before = chosen.passes[position - 1].name if position else "capture"
        root = trial.captured.module
        nodes = {node.name: node for g in (graph, last.graph) if g is not None for node in g.nodes}
        return Bisection(
            name,
            bound,
            step.name,
            kind,
            last.detail,
            tuple(needed),
            tuple(location(nodes[r.node]) if r.node in nodes else Location() for r in needed),
            len(candidates),
            runner.trials,
            Stage(before, graph, root=root, slots=slots),
            None if last.graph is None else Stage(step.name, last.graph, root=root, slots=slots),
            script(chosen.passes[: position + 1], needed, bound, chosen.backend, kind, last.detail, setup),
        )
    return Bisection(name, bound, trials=runner.trials)


def smallest(items: Sequence[T], fails: Callable[[Sequence[T]], bool]) -> list[T]:
    """A subset of ``items`` that still fails, and no longer does so without any one member (Zeller's ddmin).

    The whole of ``items`` is taken to fail.
    """
    if fails(()):
        return []
    current, parts = list(items), 2
    while len(current) > 1:
        size = -(-len(current) // parts)
        chunks = [current[i : i + size] for i in range(0, len(current), size)]
        rests = [[x for x in current if x not in chunk] for chunk in chunks]
        failing = next((chunk for chunk in chunks if fails(chunk)), None)
        if failing is not None:
            current, parts = failing, 2
            continue
        failing = next((rest for rest in rests if len(chunks) > 2 and fails(rest)), None)
        if failing is not None:
            current, parts = failing, max(parts - 1, 2)
        elif parts >= len(current):
            break
        else:
            parts = min(2 * parts, len(current))
    return current


class _Runner:
    """Runs passes with some of their rewrites, and judges the graphs."""

    def __init__(self, trial: Subject, tolerance: float) -> None:
        self.trial, self.tolerance, self.trials = trial, tolerance, 0

    def attempt(self, step: Pass, graph: fx.Graph, allowed: frozenset[Rewrite] | None) -> _Outcome:
        """``step`` on a copy of ``graph``, with the rewrites in ``allowed`` only."""
        made: list[Rewrite] = []

        def choose(rewrite: Rewrite) -> bool:
            admitted = allowed is None or rewrite in allowed
            if admitted:
                made.append(rewrite)
            return admitted

        module = fx.GraphModule(self.trial.captured.module, copy_graph(graph))
        context = PassContext(step.name, self.trial.settings, self.trial.static_slots, chooser=choose)
        try:
            run_pass(module, step, context)
        except IllFormedGraphError as error:
            self.trials += 1
            return _Outcome("ill-formed graph", str(error), tuple(made), None)
        except Exception as error:  # whatever a pass raises is what is looked for
            self.trials += 1
            return _Outcome("the pass raises", f"{type(error).__name__}: {error}", tuple(made), None)
        return self.judge(module, tuple(made))

    def judge(self, module: fx.GraphModule, made: tuple[Rewrite, ...]) -> _Outcome:
        """Run the graph and compare."""
        self.trials += 1
        try:
            distance = gap(self.trial.run(module, self.trial.options.backend), self.trial.reference)
        except Exception as error:  # any failure is what is looked for
            return _Outcome("does not run", f"{type(error).__name__}: {error}", made, module.graph)
        detail = f"{distance:.2e} from {self.trial.precision}, more than {self.tolerance:.1e}"
        return _Outcome("" if distance <= self.tolerance else "numbers", detail, made, module.graph)
