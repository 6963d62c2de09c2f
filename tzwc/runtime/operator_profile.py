"""Where the time of a compiled model goes, measured operator by operator."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, fx

from tzwc.inspection.formats.call_targets import short_name
from tzwc.inspection.records import MeasuredGroup, SpecialisationInfo
from tzwc.inspection.values_and_costs import estimates
from tzwc.ir.graph import hint, location, nbytes
from tzwc.runtime.specialisation import Specialisation
from tzwc.util.formatting import seconds as duration

__all__ = ["measured"]

_RUNS = 5
_SHARE = 0.15  # of the time, from which a group is worth advice
_ADVICE = 3


def measured(info: SpecialisationInfo, specialisation: Specialisation, inputs: Sequence[Tensor]) -> SpecialisationInfo:
    """``info`` with the time that each operator of the residual graph takes.

    The graph runs node by node in eager mode, in medians of five runs: lowered code fuses operators and is faster, but
    its time cannot be told apart. Parameters and buffers are copied first, so that nothing is written to.

    Args:
        inputs: tensor leaves of the arguments; random ones of the sizes seen at capture where there are none.
    """
    residual = specialisation.split.residual
    slots = {slot.name: slot.fetch().detach().clone() for slot in specialisation.captured.slots}
    names = [node for node in residual.graph.nodes if node.op == "placeholder"]
    count = len(specialisation.captured.inputs)
    fitting = len(inputs) == count and specialisation.captured.accepts([t.shape for t in inputs])
    given = [t.detach() for t in inputs] if fitting else [_random(node) for node in names[len(names) - count :]]
    with torch.inference_mode(False), torch.no_grad(), torch.random.fork_rng():
        program = specialisation.split.program
        kept = program.evaluate(slots, range(len(program.values)))
        arguments = [*(slots[name] for name in specialisation.split.slots), *kept, *given]
        clock = _Clock(residual)
        for _ in range(_RUNS + 1):
            clock.run(*(argument.clone() for argument in arguments))
    times = {node: statistics.median(all_[1:]) for node, all_ in clock.times.items()}  # the first run warms up
    by_operator = _grouped(times, lambda node: node.meta.get("tzwc_made_by") or short_name(node.target))
    by_module = _grouped(times, lambda node: location(node).module_path or "(root)")
    notes = (*info.notes, *_advice(info, times))
    return replace(info, measured_operators=by_operator, measured_modules=by_module, notes=notes)


class _Clock(fx.Interpreter):
    """Times every call."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.times: dict[fx.Node, list[float]] = {}

    def run_node(self, n: fx.Node) -> Any:
        if n.op != "call_function":
            return super().run_node(n)
        start = time.perf_counter()
        result = super().run_node(n)
        if isinstance(result, Tensor) and result.is_cuda:
            torch.cuda.synchronize(result.device)
        self.times.setdefault(n, []).append(time.perf_counter() - start)
        return result


def _grouped(times: dict[fx.Node, float], key: Callable[[fx.Node], str]) -> tuple[MeasuredGroup, ...]:
    """Sums by ``key``, the slowest first."""
    graph = next(iter(times)).graph if times else fx.Graph()
    costs = estimates(graph)
    members: dict[str, list[fx.Node]] = {}
    for node in times:
        members.setdefault(key(node), []).append(node)
    groups = [
        MeasuredGroup(
            name,
            len(nodes),
            sum(times[node] for node in nodes),
            sum(costs[node][1] for node in nodes if node in costs),
            sum(nbytes(node) for node in nodes),
        )
        for name, nodes in members.items()
    ]
    return tuple(sorted(groups, key=lambda group: -group.seconds))


def _advice(info: SpecialisationInfo, times: dict[fx.Node, float]) -> list[str]:
    """For the modules that take most of the time: what was declined there, and why."""
    total = sum(times.values()) or 1.0
    declined = [remark for remark in info.all_remarks if remark.kind == "declined" and remark.location.file is not None]
    notes = []
    for group in _grouped(times, lambda node: _line(location(node)))[:_ADVICE]:
        reasons = [r for r in declined if _line(r.location) == group.name]
        if group.seconds / total >= _SHARE and reasons:
            shown = f"{reasons[0].pass_name} declined: {reasons[0].reason}"
            notes.append(
                f"{group.name} takes {group.seconds / total:.0%} of the time ({duration(group.seconds)}); {shown}"
            )
    return notes


def _line(where: Any) -> str:
    from tzwc.inspection.text.python_source import short_path

    return f"{short_path(where.file)}:{where.line}" if where.file else where.module_path or "(root)"


def _random(node: fx.Node) -> Tensor:
    value = node.meta["val"]
    shape = [hint(size) for size in value.shape]
    if value.is_floating_point() or value.is_complex():
        return torch.randn(shape, dtype=value.dtype, device=value.device)
    return torch.zeros(shape, dtype=value.dtype, device=value.device)  # an index into anything
