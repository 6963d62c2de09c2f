"""Capture small programs, run passes on them, and compare results and gradients in float64."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from tzwc.ir.graph import target_name
from tzwc.ir.remarks import Remark
from tzwc.ir.snapshot import StageRecord
from tzwc.passes import by_name
from tzwc.rewrite.pass_manager import run_pipeline

EPS = torch.finfo(torch.float64).eps


def double(*shape: int) -> Tensor:
    """Normally distributed numbers in float64."""
    return torch.randn(*shape, dtype=torch.float64)


class Program(nn.Module):
    """``function(*parameters, *inputs)`` as a module."""

    def __init__(self, function: Callable[..., Any], parameters: Sequence[Tensor]) -> None:
        super().__init__()
        self.function = function
        self.weights = nn.ParameterList([nn.Parameter(p.detach().clone()) for p in parameters])

    def forward(self, *inputs: Tensor) -> Any:
        return self.function(*self.weights, *inputs)


@dataclass
class Captured:
    """A program as a graph: placeholders are ``slots``, then inputs."""

    model: nn.Module
    module: fx.GraphModule
    slots: list[Tensor]
    slot_names: frozenset[str]
    inputs: tuple[Tensor, ...]

    def run(self, *names: str, **options: Any) -> list[StageRecord]:
        return run_pipeline(
            self.module, [by_name(name) for name in names], options=options, static_slots=self.slot_names
        )

    def counts(self) -> Counter[str]:
        """How often each target is called; functions of ``tzwc.ops`` by their last name."""
        calls = [n for n in self.module.graph.nodes if n.op == "call_function"]
        return Counter(target_name(n.target).rpartition("tzwc.ops.")[2].rpartition("hyperzzw.")[2] for n in calls)

    def evaluate(self, *inputs: Tensor) -> Any:
        return self.module(*self.slots, *inputs)


def capture(model: nn.Module, *inputs: Tensor, dynamic: bool = True) -> Captured:
    shapes: Any = tuple({0: torch.export.Dim.AUTO} for _ in inputs) if dynamic else None
    if not inputs:
        shapes = None
    elif isinstance(model, Program) and dynamic:
        shapes = (shapes,)  # one variadic argument
    program = torch.export.export(model, inputs, strict=False, dynamic_shapes=shapes)
    targets = {s.arg.name: s.target for s in program.graph_signature.input_specs if s.target is not None}
    holders = [n.name for n in program.graph_module.graph.nodes if n.op == "placeholder" and n.name in targets]
    state = {**dict(model.named_parameters(remove_duplicate=False)), **dict(model.named_buffers())}
    slots = [state[targets[n]] if targets[n] in state else program.constants[targets[n]] for n in holders]
    return Captured(model, program.graph_module, slots, frozenset(holders), inputs)


def capture_function(function: Callable[..., Any], parameters: Sequence[Tensor], *inputs: Tensor) -> Captured:
    return capture(Program(function, parameters), *inputs)


def as_tuple(value: Any) -> tuple[Tensor, ...]:
    return tuple(value) if isinstance(value, (tuple, list)) else (value,)


def gradients(outputs: Sequence[Tensor], leaves: Sequence[Tensor]) -> list[Tensor | None]:
    torch.manual_seed(0)
    # Drawn in float64, so that the loss is the same one in every precision.
    loss = sum((o * torch.randn(o.shape, dtype=torch.float64).to(o.dtype)).sum() for o in outputs if o.requires_grad)
    return list(torch.autograd.grad(loss, leaves, allow_unused=True)) if isinstance(loss, Tensor) else []


def assert_unchanged(captured: Captured, *inputs: Tensor, factor: float = 64.0, differentiate: bool = True) -> None:
    """Same outputs and gradients as the model, to ``factor · eps`` of the largest element.

    Where a sum cancels, no element is as large as its terms: then to ``factor`` times the error that the model itself
    would make, as its result in float32 shows.
    """
    inputs = inputs or captured.inputs
    leaves = [x.detach().clone().requires_grad_(x.is_floating_point()) for x in inputs]
    expected = as_tuple(captured.model(*leaves))
    found = as_tuple(captured.evaluate(*leaves))
    wanted = [x for x in (*leaves, *captured.model.parameters()) if x.requires_grad]
    pairs = list(zip(found, expected, strict=True))
    if differentiate:
        pairs += list(zip(gradients(found, wanted), gradients(expected, wanted), strict=True))
    for index, (a, b) in enumerate(pairs):
        if a is None or b is None:
            assert a is b
            continue
        peak = b.detach().abs().max().item() if b.numel() else 0.0
        bound = factor * EPS * max(peak, 1e-30) * max(b.numel(), 1) ** 0.5
        if a.shape == b.shape and b.numel() and not (a - b).abs().max().item() <= bound:
            bound = max(bound, factor * _errors(captured.model, inputs, differentiate)[index])
        torch.testing.assert_close(a, b, rtol=0, atol=bound)


def _errors(model: nn.Module, inputs: Sequence[Tensor], differentiate: bool) -> list[float]:
    """The largest error of every output and gradient of ``model``, found in float32 and scaled to float64."""
    results = []
    for dtype in (torch.float64, torch.float32):
        of_dtype = copy.deepcopy(model).to(dtype)
        leaves = [x.detach().to(dtype).requires_grad_(x.is_floating_point()) for x in inputs]
        outputs = as_tuple(of_dtype(*leaves))
        wanted = [x for x in (*leaves, *of_dtype.parameters()) if x.requires_grad]
        results.append([*outputs, *(gradients(outputs, wanted) if differentiate else [])])
    scale = EPS / torch.finfo(torch.float32).eps
    return [
        0.0 if a is None or b is None else (a - b).abs().max().item() * scale for a, b in zip(*results, strict=True)
    ]


def remarks(stages: Sequence[StageRecord], kind: str | None = None, rule: str | None = None) -> list[Remark]:
    return [
        r for s in stages for r in s.remarks if (kind is None or r.kind == kind) and (rule is None or r.rule == rule)
    ]


def code(module: fx.GraphModule) -> list[tuple[str, str, str]]:
    """The calls of a graph by number, for comparing two graphs."""
    number = {node: f"%{i}" for i, node in enumerate(module.graph.nodes)}

    def text(value: object) -> str:
        return str(fx.node.map_arg(value, lambda n: number[n]))  # type: ignore[arg-type]

    return [(n.op, target_name(n.target), text(n.args) + text(n.kwargs)) for n in module.graph.nodes]
