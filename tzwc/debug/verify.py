"""``tzwc.verify``: what every pass does to the numbers."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, cast

from torch import Tensor, fx, nn

from tzwc.debug.reference import Results, Subject, gap, subject
from tzwc.errors import InvalidArgumentError
from tzwc.inspection.report.document import Block, Facts, Heading, Presented, Table
from tzwc.inspection.report.report import json_safe
from tzwc.ir.snapshot import copy_graph
from tzwc.lowering.backend import Backend
from tzwc.options import CompileOptions
from tzwc.rewrite.pass_manager import Pass, PassContext, Rewrite, run_pass
from tzwc.runtime.compiled_module import CompiledModule
from tzwc.util.argument_checks import exact, examined, shown

__all__ = ["StageGap", "Verification", "options_for", "trial_of", "verify"]


@dataclass(frozen=True)
class StageGap:
    """What one stage does to the numbers.

    Attributes:
        stage: ``"eager"``, ``"capture"``, a pass, or the backend.
        operations: calls in the graph.
        rewrites: changes that the pass made.
        reference: distance from the float64 results; see :func:`tzwc.debug.reference.gap`.
        before: distance from the stage before.
        problem: what failed, if anything did.
        exceeds: whether ``reference`` is above the tolerance, or something failed.
    """

    stage: str
    operations: int | None = None
    rewrites: int | None = None
    reference: float | None = None
    before: float | None = None
    problem: str = ""
    exceeds: bool = False


@dataclass(frozen=True)
class Verification(Presented):
    """The numerical gap of every stage; print it, show it with rich, or take it as Markdown or as a dictionary.

    Attributes:
        model: class of the model.
        precision: of the reference: ``"float64"``, or why it has the model's own.
        tolerance: what the distance from the reference may be.
        gaps: one entry for each stage, in order; it ends where something failed.
    """

    model: str
    precision: str
    tolerance: float
    gaps: tuple[StageGap, ...]

    @property
    def ok(self) -> bool:
        """Whether every stage stays within the tolerance."""
        return not any(entry.exceeds for entry in self.gaps)

    @property
    def first(self) -> StageGap | None:
        """The first stage that exceeds the tolerance or fails."""
        return next((entry for entry in self.gaps if entry.exceeds), None)

    def blocks(self) -> list[Block]:
        """The table as blocks of :mod:`tzwc.inspection.report.document`."""
        header = ("stage", "operations", "rewrites", "from reference", "from stage before", "")
        rows = tuple(
            (
                entry.stage,
                "" if entry.operations is None else f"{entry.operations:,}",
                "" if entry.rewrites is None else f"{entry.rewrites:,}",
                "" if entry.reference is None else f"{entry.reference:.1e}",
                "" if entry.before is None else f"{entry.before:.1e}",
                entry.problem or ("exceeds the tolerance" if entry.exceeds else ""),
            )
            for entry in self.gaps
        )
        verdict = (
            "every stage is within it" if self.ok else f"{self.first.stage if self.first else ''} is not within it"
        )
        facts = (("reference", self.precision), ("tolerance", f"{self.tolerance:.1e} of the largest value; {verdict}"))
        return [Heading(f"numerical gap: {self.model}", 1), Facts(facts), Table(header, rows, frozenset(header[1:5]))]

    def to_dict(self) -> dict[str, Any]:
        """Everything as JSON-safe data."""
        result: dict[str, Any] = json_safe({**asdict(self), "ok": self.ok})
        return result


def verify(
    model: nn.Module,
    inputs: Tensor | Sequence[Any],
    *,
    kwargs: Mapping[str, Any] | None = None,
    passes: Sequence[Pass | str] | None = None,
    tolerance: float | None = None,
    only: Mapping[str, Sequence[str]] | None = None,
    **options: Any,
) -> Verification:
    """Run the graph after every pass, and compare it with the model in float64 and with the graph before.

    The model is not changed, and no gradients are recorded.

    Args:
        model: any module that can be captured; of a compiled one, the original with its options.
        inputs: a tensor, or a list with one entry for each argument.
        kwargs: named arguments.
        passes: as for :func:`tzwc.compile`.
        tolerance: allowed distance from float64, relative to the largest value; by default four times that of the
            eager model, and at least 64 roundings.
        only: make no rewrites but these in the passes named: ``{"cse": ["equal_calls@mul_3"]}``, as
            :func:`tzwc.bisect` prints them.
        **options: as for :func:`tzwc.compile`; ``backend`` (here ``"eager"`` by default) is run after the last pass.

    Raises:
        InvalidArgumentError: an argument cannot be used.
        CaptureError: the model cannot be captured.
    """
    chosen, trial, bound = trial_of(model, inputs, kwargs, passes, tolerance, options)
    gaps = [StageGap("eager", reference=trial.eager_gap)]
    module = fx.GraphModule(trial.captured.module, copy_graph(trial.captured.module.graph))
    previous: Results = trial.eager

    def measure(name: str, rewrites: int | None, backend: Backend) -> Results | None:
        operations = sum(node.op.startswith("call") for node in module.graph.nodes)
        try:
            results = trial.run(module, backend)
        except Exception as error:  # whatever fails is what the caller wants to know
            problem = f"does not run: {type(error).__name__}: {error}"
            gaps.append(StageGap(name, operations, rewrites, problem=problem, exceeds=True))
            return None
        distance = gap(results, trial.reference)
        gaps.append(
            StageGap(name, operations, rewrites, distance, gap(results, previous), exceeds=not distance <= bound)
        )
        return results

    def stages() -> None:
        nonlocal previous
        for step in (None, *chosen.passes):
            rewrites = None
            if step is not None:
                context = _context(step, trial, None if only is None else only.get(step.name))
                try:
                    run_pass(module, step, context)
                except Exception as error:
                    gaps.append(StageGap(step.name, problem=f"{type(error).__name__}: {error}", exceeds=True))
                    return
                rewrites = sum(remark.kind == "applied" for remark in context.remarks)
            results = measure("capture" if step is None else step.name, rewrites, "eager")
            if results is None:
                return
            previous = results
        if chosen.backend != "eager":
            measure(str(chosen.backend), None, chosen.backend)

    stages()
    return Verification(type(model).__name__, trial.precision, bound, tuple(gaps))


def _context(step: Pass, trial: Subject, only: Sequence[str] | None) -> PassContext:
    chooser: Callable[[Rewrite], bool] | None = None
    if only is not None:
        wanted = frozenset(only)
        chooser = lambda rewrite: str(rewrite) in wanted  # noqa: E731
    return PassContext(step.name, trial.settings, trial.static_slots, chooser=chooser)


def trial_of(
    model: nn.Module,
    inputs: Tensor | Sequence[Any],
    kwargs: Mapping[str, Any] | None,
    passes: Sequence[Pass | str] | None,
    tolerance: float | None,
    options: Mapping[str, Any],
) -> tuple[CompileOptions, Subject, float]:
    """The options, the captured model, and what its distance from the reference may be.

    Raises:
        InvalidArgumentError: one of them cannot be used.
        CaptureError: the model cannot be captured.
    """
    with examined("model, passes, tolerance or options"):
        _check_tolerance(exact(tolerance))
        chosen = options_for(model, passes, options)
    trial = subject(model, inputs, kwargs, chosen)
    return chosen, trial, trial.tolerance if tolerance is None else float(tolerance)


def _check_tolerance(tolerance: object) -> None:
    """Refuse a tolerance that no distance can keep, or that says nothing."""
    number = isinstance(tolerance, (int, float)) and not isinstance(tolerance, bool)
    if tolerance is not None and not (number and 0 <= cast("float", tolerance) <= sys.float_info.max):
        raise InvalidArgumentError(f"tolerance={shown(tolerance)}: expected a finite number that is not negative")


def options_for(model: nn.Module, passes: Sequence[Pass | str] | None, options: Mapping[str, Any]) -> CompileOptions:
    """The options that ``tzwc.compile`` would take, with the backend ``"eager"`` unless another is given.

    Raises:
        InvalidArgumentError: one of them cannot be used.
    """
    from tzwc.api import options_of

    if isinstance(model, CompiledModule):
        known = {n: getattr(model.options, n) for n in CompileOptions.__dataclass_fields__ if n != "passes"}
        options = {**known, "backend": "eager", **options}
        passes = model.options.passes if passes is None else passes
    if not isinstance(model, nn.Module):
        raise InvalidArgumentError(f"model={shown(model)} is a {type(model).__name__}; give a torch.nn.Module")
    return options_of(passes, {"backend": "eager", **options})
