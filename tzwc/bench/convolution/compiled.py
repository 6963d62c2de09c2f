"""The chosen algorithms against ``torch.compile`` of PyTorch's own convolution, both compiled in the same way."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tzwc.autotune.choice import choose
from tzwc.autotune.timers import Call, timer_for
from tzwc.autotune.workload import operands, problem_to_dict
from tzwc.bench.convolution.cases import FIXED
from tzwc.ops import convolution, prepare_kernel, prepared_convolution
from tzwc.ops.conv import Problem
from tzwc.ops.conv.problem import DIRECTIONS, Direction
from tzwc.util.disk_cache import Store

__all__ = ["compare", "compare_fixed"]

Function = Callable[[Tensor, Tensor], Tensor]


def compare_fixed(number: int, store: Store, rounds: int, backend: str = "inductor") -> dict[str, Any]:
    """One of the fixed points; JSON-safe."""
    point = FIXED[number]
    return {"name": point.name, "goal": point.goal} | compare(point.problem, False, store, rounds, backend)


def compare(problem: Problem, backward: bool, store: Store, rounds: int, backend: str = "inductor") -> dict[str, Any]:
    """Seconds of both, and how many times faster ours is; JSON-safe.

    Where ``native`` is chosen throughout, the pass leaves the program alone: both sides are the same one, the ratio
    is 1 and nothing is compiled.

    Args:
        problem: a forward problem.
        backward: time the gradients too.
        store: what the choice may read and remember.
        rounds: of both sides, in turns.
        backend: of ``torch.compile``.
    """
    directions: tuple[Direction, ...] = DIRECTIONS if backward else ("forward",)
    chosen = [choose(problem.with_(direction=d), store=store).algorithm for d in directions]
    result: dict[str, Any] = {"problem": problem_to_dict(problem), "backward": backward, "algorithms": chosen}
    if set(chosen) == {"native"}:
        return result | {"compiled": None, "chosen": None, "ratio": 1.0, "same program": True}
    torch.compiler.reset()
    x, kernel = operands(problem)
    theirs = _call(torch.compile(_plain(problem), backend=backend), x, kernel, backward)
    ours, second = _ours(problem, chosen, kernel, backward)
    mine = _call(torch.compile(ours, backend=backend), x, second, backward)
    timer = timer_for(problem.device)
    for call in (theirs, mine):
        for _ in range(2):
            call()
    times = [max(1, round(2e-3 / timer.time(call, 1))) for call in (theirs, mine)]
    rows = []
    for done in range(rounds):
        pair = [timer.time(call, n) for call, n in zip((theirs, mine), times, strict=True)]
        rows.append(pair)
        if done >= 2 and sum(map(sum, rows)) > 10:
            break
    return result | {
        "compiled": statistics.median(row[0] for row in rows),
        "chosen": statistics.median(row[1] for row in rows),
        "ratio": statistics.median(row[0] / row[1] for row in rows),
        "same program": False,
    }


def _ours(problem: Problem, chosen: list[str], kernel: Tensor, backward: bool) -> tuple[Function, Tensor]:
    common = problem.keywords()
    if problem.static_kernel and not backward:  # what hoist_static makes of it
        prepared = prepare_kernel(kernel, algorithm=chosen[0], lengths=problem.lengths, **common)
        sizes: dict[str, Any] = {"kernel_size": problem.kernel, "out_channels": problem.out_channels}
        return (
            lambda x, p: prepared_convolution(x, p, algorithm=chosen[0], **sizes, **common),
            prepared,
        )
    names: dict[str, Any] = {"algorithm": chosen[0]}
    if backward:
        names |= {"input_gradient": chosen[1], "weight_gradient": chosen[2]}
    return lambda x, k: convolution(x, k, **names, **common), kernel


def _plain(problem: Problem) -> Function:
    """As one writes it with ``torch.nn.functional``."""
    function = (F.conv1d, F.conv2d, F.conv3d)[problem.axes - 1]
    flat = [p for pair in reversed(problem.padding) for p in pair]
    even = all(a == b for a, b in problem.padding)

    def plain(x: Tensor, kernel: Tensor) -> Tensor:
        groups = problem.groups
        if problem.per_sample:
            groups = x.shape[0] * x.shape[1]
            x, kernel = x.reshape(1, groups, *problem.lengths), kernel.reshape(groups, 1, *problem.kernel)
        if even:
            y = function(x, kernel, None, problem.stride, [a for a, _ in problem.padding], problem.dilation, groups)
        else:
            y = function(F.pad(x, flat), kernel, None, problem.stride, 0, problem.dilation, groups)
        return y.reshape(problem.batch, problem.out_channels, *problem.out)

    return plain


def _call(function: Function, x: Tensor, second: Tensor, backward: bool) -> Call:
    if not backward:

        def forward() -> Tensor:
            with torch.no_grad():
                return function(x, second)

        return forward
    leaves = [t.detach().clone().requires_grad_() for t in (x, second)]
    with torch.no_grad():
        gradient = torch.ones_like(function(*leaves))

    def both() -> tuple[Tensor, ...]:
        return torch.autograd.grad(function(*leaves), leaves, gradient)

    return both
