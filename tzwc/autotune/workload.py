"""A convolution problem as a key, from a file, and as calls that can be timed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, get_type_hints

import torch
from torch import Tensor

from tzwc.autotune.timers import Call
from tzwc.ops.conv import Algorithm, Problem, compute
from tzwc.ops.conv.algorithm import widens

__all__ = ["as_measured", "call_maker", "operands", "problem_from_dict", "problem_to_dict"]

_DEFAULTS = {item.name: item.default for item in dataclasses.fields(Problem) if item.default is not dataclasses.MISSING}
_HINTS = get_type_hints(Problem)


def problem_to_dict(problem: Problem) -> dict[str, Any]:
    """JSON-safe; what has its default is left out."""
    found = {item.name: getattr(problem, item.name) for item in dataclasses.fields(problem)}
    for name in ("stride", "dilation"):
        found[name] = () if set(found[name]) == {1} else found[name]
    kept = {name: value for name, value in found.items() if value != _DEFAULTS.get(name, dataclasses.MISSING)}
    return {name: str(value) if name == "dtype" else _listed(value) for name, value in kept.items()}


def problem_from_dict(found: object) -> Problem:
    """The opposite of :func:`problem_to_dict`, for what may come from anywhere.

    Raises:
        ValueError: it is no problem.
    """
    if not isinstance(found, dict):
        raise ValueError("a problem is a table")
    values = {name: _tupled(value) for name, value in found.items()}
    if "dtype" in values:
        dtype = getattr(torch, str(values["dtype"]).removeprefix("torch."), None)
        if not isinstance(dtype, torch.dtype):
            raise ValueError(f"{str(values['dtype'])[:40]!r} is not a dtype")
        values["dtype"] = dtype
    for name, value in values.items():
        if name not in _HINTS or not _fits(value, _HINTS[name]):
            raise ValueError(f"{name[:40]!r} does not have this value in a problem")
    try:
        return Problem(**values)
    except (TypeError, ArithmeticError) as error:
        raise ValueError(str(error)) from None


def as_measured(problem: Problem) -> Problem:
    """``problem`` with the attributes that do not change the time of its direction at their defaults.

    In a gradient nothing is prepared before the call: the kernel of a step is used once.
    """
    return problem if problem.direction == "forward" else problem.with_(static_kernel=False)


def operands(problem: Problem, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Random operands of ``problem``, as :func:`tzwc.ops.conv.compute` takes them; the global generators are left
    alone."""
    generator = torch.Generator(problem.device).manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator, device=problem.device).sub_(0.5).to(problem.dtype)

    shape = (problem.batch, problem.in_channels, *problem.lengths)
    output = (problem.batch, problem.out_channels, *problem.out)
    first = draw(*(output if problem.direction == "input_gradient" else shape))
    if problem.channels_last and problem.axes > 1:
        first = first.contiguous(memory_format=torch.channels_last if problem.axes == 2 else torch.channels_last_3d)
    if problem.direction == "weight_gradient":
        return first, draw(*output)
    if problem.per_sample:
        return first, draw(problem.batch, problem.in_channels, *problem.kernel)
    return first, draw(problem.out_channels, problem.fan_in, *problem.kernel)


def call_maker(problem: Problem, algorithm: Algorithm, pair: tuple[Tensor, Tensor]) -> Callable[[], Call]:
    """What makes the call to be timed; the part that depends on a static kernel alone is done before."""
    a, b = pair
    if problem.direction != "forward" or not problem.static_kernel:
        return lambda: lambda: compute(problem, algorithm.name, a, b)
    if widens(algorithm, problem.dtype, problem.device):
        wide = problem.with_(dtype=torch.float32)

        def make_wide() -> Call:
            prepared = algorithm.prepare(wide, b.float())
            return lambda: algorithm.run(wide, a.float(), prepared).to(problem.dtype)

        return make_wide

    def make() -> Call:
        prepared = algorithm.prepare(problem, b)
        return lambda: algorithm.run(problem, a, prepared)

    return make


def _listed(value: object) -> Any:
    return [_listed(item) for item in value] if isinstance(value, tuple) else value


def _tupled(value: object) -> Any:
    return tuple(_tupled(item) for item in value) if isinstance(value, list) else value


def _fits(value: Any, hint: Any) -> bool:
    """Whether ``value`` has the type of an attribute: a number, sizes, pairs, a word or a truth."""
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**40
    if hint == tuple[int, ...]:
        return isinstance(value, tuple) and len(value) <= 3 and all(_fits(item, int) for item in value)
    if hint == tuple[tuple[int, int], ...]:
        return isinstance(value, tuple) and all(
            isinstance(pair, tuple) and len(pair) == 2 and all(isinstance(p, int) and abs(p) < 2**40 for p in pair)
            for pair in value
        )
    if hint in (bool, torch.dtype):
        return isinstance(value, hint)
    return isinstance(value, str)
