"""Run graphs between passes on real arguments, and tell how far apart their results are.

What :func:`tzwc.verify` and :func:`tzwc.bisect` share. A model is never touched: everything works on a copy of it.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from tzwc._torch import pytree
from tzwc.errors import InvalidArgumentError
from tzwc.ir.pytree import flatten_result
from tzwc.lowering.backend import Backend, lower
from tzwc.options import CompileOptions
from tzwc.partition.partitioner import split
from tzwc.runtime.compiled_module import CompiledModule
from tzwc.tracing.capture import Capture, UnsettledError, capture_call

__all__ = ["Results", "Subject", "gap", "subject"]

Results = Mapping[str, Any]
"""Results by name: the leaves of what the module returns, and the buffers that it wrote to."""

_SETTLING = 3  # calls after which a model that sets itself up must have done so
_ROUNDINGS = 64  # another order of summation explains a difference of this many roundings
_FACTOR = 4  # a compiled model may be this much less exact than the eager one


@dataclass(frozen=True)
class Subject:
    """A captured model with the arguments that it is run on.

    Attributes:
        captured: the graph as captured.
        inputs: tensor leaves of the arguments.
        options: of ``tzwc.compile``.
        reference: results of the model in float64, or in its own precision when that is impossible.
        precision: ``"float64"``, or why the reference has the model's own precision.
        eager: results of the model as it is.
        eager_gap: distance of ``eager`` from ``reference``; for a model in float64, estimated from its float32 copy.
        epsilon: distance from 1 to the next number, in the coarsest type among parameters and inputs.
    """

    captured: Capture
    inputs: tuple[Tensor, ...]
    options: CompileOptions
    reference: Results
    precision: str
    eager: Results
    eager_gap: float
    epsilon: float

    @property
    def tolerance(self) -> float:
        """What a stage may be away from the reference: four times what eager is, and never less than 64 roundings."""
        return max(_FACTOR * self.eager_gap, _ROUNDINGS * self.epsilon)

    @property
    def settings(self) -> dict[str, Any]:
        """What passes may read."""
        return self.options.for_passes(grad=False)

    @property
    def static_slots(self) -> frozenset[str]:
        """All slots: gradients are off."""
        return frozenset(slot.name for slot in self.captured.slots)

    def run(self, module: fx.GraphModule, backend: Backend) -> Results:
        """The results of ``module``, a rewritten form of the captured graph, lowered by ``backend``."""
        parts = split(module, [slot.name for slot in self.captured.slots], self.captured.inputs)
        with _repeatable():
            given = {slot.name: slot.fetch().detach() for slot in self.captured.slots}
            slots = {name: tensor.clone() for name, tensor in given.items()}
            kept = parts.program.evaluate(slots, range(len(parts.program.values)))
            inputs = [tensor.clone() for tensor in self.inputs]
            arguments = [*(slots[name] for name in parts.slots), *kept, *inputs]
            code = lower(parts.residual, arguments, backend)
            torch.manual_seed(0)
            outputs = code(*arguments)
        results = {f"result {i}": value for i, value in enumerate(outputs)}
        paths = {slot.name: slot.path for slot in self.captured.slots}
        written = {paths[n]: t for n, t in slots.items() if not torch.equal(_bits(t), _bits(given[n]))}
        return results | written


def subject(
    model: nn.Module, inputs: Tensor | Sequence[Any], kwargs: Mapping[str, Any] | None, options: CompileOptions
) -> Subject:
    """Capture a copy of ``model``, and run it on the arguments in its own precision and in float64.

    Raises:
        InvalidArgumentError: ``inputs`` is neither a tensor nor a list or tuple.
        CaptureError: the model cannot be captured.
    """
    if not isinstance(inputs, (Tensor, list, tuple)):
        raise InvalidArgumentError(f"inputs={inputs!r}: expected a tensor, or a list with one entry for each argument")
    own = copy.deepcopy(model.original if isinstance(model, CompiledModule) else model)
    arguments = (tuple(inputs) if isinstance(inputs, (list, tuple)) else (inputs,), dict(kwargs or {}))
    args, named = pytree.tree_map_only(Tensor, lambda t: t.detach().clone(), arguments)
    with torch.inference_mode(False), torch.no_grad():
        captured = _capture(own, args, named, options)
        eager = _eager(own, args, named)
        exact, precision = _exactly(own, args, named, eager, captured)
        tensors = [leaf for leaf in pytree.tree_leaves((args, named)) if isinstance(leaf, Tensor)]
        epsilon = _epsilon([*(slot.fetch() for slot in captured.slots), *tensors])
        error = gap(eager, exact)
        if epsilon < torch.finfo(torch.float32).eps:  # how this model magnifies roundings shows at any precision
            ratio = epsilon / torch.finfo(torch.float32).eps
            error = _coarse_error(own, args, named, exact) * ratio
    return Subject(captured, tuple(tensors), options, exact, precision, eager, error, epsilon)


def gap(actual: Results, expected: Results) -> float:
    """The largest distance between two results, relative to the largest finite magnitude of the expected one.

    Infinite where a result is missing, has another shape, or is not finite where the expected one is.
    """
    worst = 0.0
    for name, wanted in expected.items():
        found = actual.get(name)
        worst = max(worst, _distance(found, wanted))
    return worst


def _distance(a: Any, e: Any) -> float:
    if not isinstance(e, Tensor) or not isinstance(a, Tensor):
        return 0.0 if type(a) is type(e) and a == e else float("inf")
    if a.shape != e.shape:
        return float("inf")
    if not e.numel():
        return 0.0
    wide = torch.complex128 if a.is_complex() or e.is_complex() else torch.float64
    a, e = a.detach().to(wide), e.detach().to(wide)
    same = (a == e) | (a.isnan() & e.isnan())
    finite = e.isfinite()
    peak = float(e[finite].abs().max()) if finite.any() else 0.0
    worst = float(torch.where(same, 0.0, (a - e).abs()).max())
    if worst != worst:  # NaN on one side only
        return float("inf")
    return worst / peak if peak else worst


def _capture(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], options: CompileOptions) -> Capture:
    for _ in range(_SETTLING):
        try:
            captured = capture_call(model, args, kwargs, dynamic=options.dynamic)
            if not captured.unsettled:
                return captured
        except UnsettledError:
            pass
        model(*args, **kwargs)  # it sets itself up in its first call
    return capture_call(model, args, kwargs, dynamic=options.dynamic)


@contextmanager
def _repeatable() -> Iterator[None]:
    """The same random numbers every time, no gradients, and generators as they were."""
    with torch.random.fork_rng(), torch.inference_mode(False), torch.no_grad():
        torch.manual_seed(0)
        yield


def _eager(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Results of a copy of ``model``."""
    own = copy.deepcopy(model)
    before = {name: b.clone() for name, b in own.named_buffers()}
    given = pytree.tree_map_only(Tensor, lambda t: t.clone(), (args, kwargs))
    with _repeatable():
        leaves, _ = flatten_result(own(*given[0], **given[1]))
    results = {f"result {i}": value for i, value in enumerate(leaves)}
    after = dict(own.named_buffers())
    return results | {
        n: after[n] for n, b in before.items() if n in after and not torch.equal(_bits(after[n]), _bits(b))
    }


def _exactly(
    model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], eager: dict[str, Any], captured: Capture
) -> tuple[dict[str, Any], str]:
    from tzwc.ir.graph import is_random

    if any(map(is_random, captured.module.graph.nodes)):
        return eager, "the model's own: it draws random numbers, which would be others in float64"
    wide, given = pytree.tree_map_only(Tensor, _widen, args), pytree.tree_map_only(Tensor, _widen, kwargs)
    before = torch.get_default_dtype()
    try:
        torch.set_default_dtype(torch.float64)
        return _eager(_converted(model, _widen), wide, given), "float64"
    except Exception as error:  # a model may insist on its types
        return eager, f"the model's own: in float64 it fails ({type(error).__name__}: {error})"
    finally:
        torch.set_default_dtype(before)


def _coarse_error(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], exact: Results) -> float:
    """Distance of the float32 copy from ``exact``; 0 when there is no such copy."""
    coarse, given = pytree.tree_map_only(Tensor, _narrow, (args, kwargs))
    try:
        return min(1.0, gap(_eager(_converted(model, _narrow), coarse, given), exact))
    except Exception:  # as above: then the bound is that of one summation
        return 0.0


def _converted(model: nn.Module, convert: Any) -> nn.Module:
    """A copy whose parameters, buffers and tensor attributes have another precision."""
    own = copy.deepcopy(model)
    for tensor in (*own.parameters(), *own.buffers()):
        tensor.data = convert(tensor.data)
    for module in own.modules():
        for name, value in list(vars(module).items()):
            if isinstance(value, Tensor):
                setattr(module, name, convert(value))
    return own


def _widen(tensor: Tensor) -> Tensor:
    return tensor.to(torch.complex128 if tensor.is_complex() else torch.float64) if _inexact(tensor) else tensor


def _narrow(tensor: Tensor) -> Tensor:
    return tensor.to(torch.complex64 if tensor.is_complex() else torch.float32) if _inexact(tensor) else tensor


def _inexact(tensor: Tensor) -> bool:
    return tensor.is_floating_point() or tensor.is_complex()


def _epsilon(tensors: Sequence[Tensor]) -> float:
    return max((torch.finfo(t.dtype).eps for t in tensors if _inexact(t)), default=torch.finfo(torch.float32).eps)


def _bits(tensor: Tensor) -> Tensor:
    """Contents that can be compared: NaN equals itself."""
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8) if tensor.numel() else tensor
