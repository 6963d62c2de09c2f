"""``tzwc compile``: compile a model, run it once, and tell what happened."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import nn

from tzwc import api
from tzwc._torch import pytree
from tzwc.errors import InvalidArgumentError, TzwcError
from tzwc.runtime.compiled_module import CompiledModule
from tzwc.targets import InputSpec, default_inputs, parse_dtype, resolve
from tzwc.util.console import working
from tzwc.util.paths import is_file

__all__ = ["Outcome", "Request", "largest_difference", "run"]


@dataclass(frozen=True)
class Request:
    """What to compile and how.

    Attributes:
        target: a preset or ``module:factory``.
        inputs: one text of :meth:`tzwc.targets.InputSpec.parse` for each argument; empty for the preset's own.
        dtype: element type of parameters and inputs, by name.
        train: compile forward and backward, in training mode.
        dump: folder for the graphs, or ``None``.
        options: of ``tzwc.compile``.
        measure: time the operators of the final graph for the report.
    """

    target: str
    inputs: tuple[str, ...] = ()
    dtype: str = "float32"
    train: bool = False
    dump: Path | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    measure: bool = False


@dataclass(frozen=True)
class Outcome:
    """What came of a :class:`Request`.

    Attributes:
        model: class of the model.
        inputs: shapes and element types it was run with.
        seconds: time of the first call: capture, passes, lowering and one run.
        difference: largest distance from the eager model's results, relative to the largest of these; ``None`` in
            training mode, where random layers may differ.
        compiled: whether the model was captured.
        report: ``fast.report()``.
        dump: folder that the graphs were written to, or ``None``.
    """

    model: str
    inputs: tuple[str, ...]
    seconds: float
    difference: float | None
    compiled: bool
    report: Any
    dump: Path | None

    def to_dict(self) -> dict[str, Any]:
        """The outcome as JSON-safe data."""
        return {
            "model": self.model,
            "inputs": list(self.inputs),
            "seconds": self.seconds,
            "difference": self.difference,
            "compiled": self.compiled,
            "dump": None if self.dump is None else str(self.dump),
            "report": self.report.to_dict(),
        }

    def show(self, console: Console) -> None:
        """Print the report and a few lines about the run."""
        console.print(self.report)
        console.print(f"first call: {self.seconds:.1f} s for {self.model}({', '.join(self.inputs)})")
        if self.difference is not None:
            console.print(f"largest difference from eager: {self.difference:.1e} of the largest value")
        if self.dump is not None:
            console.print(f"graphs after every pass and this report: {self.dump}/")


def run(request: Request) -> Outcome:
    """Do what ``request`` says.

    Raises:
        InvalidArgumentError: the request does not make sense.
        TzwcError: the model itself fails.
    """
    dtype = parse_dtype(request.dtype)
    if not dtype.is_floating_point:
        raise InvalidArgumentError(f"dtype {request.dtype!r}: parameters need a floating-point type")
    if request.dump is not None and is_file(request.dump):
        raise InvalidArgumentError(f"{request.dump} is a file: give a folder for the dump")
    specs = [InputSpec.parse(text) for text in request.inputs]
    torch.manual_seed(0)
    model = resolve(request.target).to(dtype).train(request.train)
    fast = api.compile(model, **request.options)
    generator = torch.Generator().manual_seed(0)
    inputs = [spec.make(dtype, generator) for spec in specs or default_inputs(model)]
    described = tuple(f"{str(x.dtype).removeprefix('torch.')}[{', '.join(map(str, x.shape))}]" for x in inputs)
    expected = _eager(model, inputs, described) if not request.train else None
    with working(f"compiling {type(model).__name__}({', '.join(described)})"):
        start = time.perf_counter()
        actual = _call(fast, inputs, request.train)
        seconds = time.perf_counter() - start
    if request.dump is not None:
        fast.dump(request.dump)
    difference = None if expected is None else largest_difference(actual, expected)
    compiled = bool(fast.specialisations)
    report = fast.report(measure=inputs if request.measure else False)
    return Outcome(type(model).__name__, described, seconds, difference, compiled, report, request.dump)


def _eager(model: nn.Module, inputs: list[torch.Tensor], described: tuple[str, ...]) -> Any:
    """The model's own answer, which also shows whether it takes these inputs."""
    try:
        with torch.no_grad():
            return model(*inputs)
    except InvalidArgumentError:
        raise
    except Exception as error:
        call = f"{type(model).__name__}({', '.join(described)})"
        raise TzwcError(f"the model itself fails, uncompiled: {call}: {type(error).__name__}: {error}") from error


def _call(fast: CompiledModule, inputs: list[torch.Tensor], train: bool) -> Any:
    with torch.set_grad_enabled(train):
        result = fast(*inputs)
        if train:
            results = [leaf for leaf in pytree.tree_leaves(result) if _differentiable(leaf)]
            if results:
                torch.autograd.backward(results, [torch.ones_like(leaf) for leaf in results])
    return result


def _differentiable(leaf: object) -> bool:
    return isinstance(leaf, torch.Tensor) and leaf.requires_grad


def largest_difference(actual: Any, expected: Any) -> float:
    """Largest distance between two results, relative to the largest finite magnitude of the expected one."""
    worst = 0.0
    for a, e in zip(pytree.tree_leaves(actual), pytree.tree_leaves(expected), strict=True):
        if isinstance(e, torch.Tensor) and e.numel():
            peak = e[e.isfinite()].abs().max().double().item() if e.isfinite().any() else 0.0
            same = (a == e) | (a.isnan() & e.isnan())
            gap = torch.where(same, 0.0, (a.double() - e.double()).abs()).max().item()
            worst = max(worst, gap / peak if peak else gap)
    return worst
