"""A walk with a model and its rival through calls, changes and training, and where they part."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from tests.idioms.idiom import Manner

__all__ = ["BATCHES", "Broken", "Rival", "parting"]

BATCHES = (3, 3, 5, 1)
"""Batch sizes of the first calls: the same again, a larger one, and one that shapes like to treat differently."""

# A float64 result may differ by the rounding of a rewritten operator. The worst of them is a convolution that is done
# by FFT instead of directly or the other way round: its error grows as eps × peak × log2(length), with a factor of a
# few; no transform in these models is longer than 128. A few such operators and reductions in another order follow each
# other, for which verification of captured graphs allows 64 as well. Inputs and activations are of order one, so the
# peak is taken to be at least one: what nearly cancels carries the error of what it was made of.
_ROUNDINGS = 64
_LOG_LENGTH = 7


class Broken(Exception):
    """The rival raised where eager did not, or something else than eager."""


class Rival(Protocol):
    """What is compared with eager: made from a model, and called like it."""

    state: nn.Module
    """Has the parameters and buffers that the rival computes with."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The result of the model."""

    def effect(self, path: str) -> Any:
        """The attribute, entry or key at ``path``."""

    def moved(self) -> None:
        """The model, its mode or what it contains were changed from outside."""


@dataclasses.dataclass
class _Side:
    """One of the two that walk."""

    model: nn.Module
    rival: Rival | None
    optimizer: torch.optim.Optimizer | None = None

    @property
    def state(self) -> nn.Module:
        return self.model if self.rival is None else self.rival.state

    def effect(self, path: str) -> Any:
        return resolve(self.model, path) if self.rival is None else self.rival.effect(path)

    def change(self, change: Callable[[Any], None]) -> None:
        change(self.model)
        if self.rival is not None:
            self.rival.moved()


@dataclasses.dataclass
class _Seen:
    """What one call did."""

    leaves: dict[str, Any]
    error: Exception | None
    printed: str


def resolve(owner: Any, path: str) -> Any:
    """What is at a path of attributes, indices and keys."""
    for name in path.split("."):
        if isinstance(owner, Mapping):
            owner = owner[name]
        elif isinstance(owner, Sequence):
            owner = owner[int(name)]
        else:
            owner = getattr(owner, name)
    return owner


def parting(
    manner: Manner,
    rival_of: Callable[[nn.Module], Rival],
    *,
    batches: Sequence[int] = BATCHES,
    training_first: bool = False,
    after: Callable[[str, Rival], None] = lambda *_: None,
) -> str:
    """Where the rival first differs from eager, or ``""``.

    Args:
        manner: what is walked through: calls in evaluation, after ``keep``, after ``change``, then in training.
        rival_of: makes the rival from a fresh model.
        batches: of the first calls.
        training_first: walk through training and back to evaluation instead.
        after: is called with the name of each phase, such as ``"evaluation"`` or ``"after keep"``, and the rival.

    Raises:
        Broken: the rival raised where eager did not, or something else than eager.
    """
    theirs = manner.make()
    sides = (_Side(manner.make(), None), _Side(theirs, rival_of(theirs)))
    if training_first:
        steps = [_calls("training first", (3, 5), True), _calls("evaluation after it", (3,), False)]
        plan: list[tuple[Callable[[Any], None] | None, _Phase]] = [(None, step) for step in steps]
    else:
        plan = [(None, _calls("evaluation", batches, False))]
        plan += [
            (c, _calls(f"after {n}", (3, 5), False)) for n, c in (("keep", manner.keep), ("change", manner.change))
        ]
        plan = [(change, phase) for change, phase in plan if change is not None or phase.name == "evaluation"]
        if manner.trains:
            plan.append((None, _calls("training", (3, 5, 3), True)))
    seed = 0
    for change, phase in plan:
        for side in sides:
            side.change(lambda model, phase=phase, change=change: _prepare(model, phase.training, change))  # type: ignore[misc]
        for number, batch in enumerate(phase.batches):
            seed += 1
            problem = _difference(manner, sides, batch, seed, phase.training)
            if problem:
                return f"{phase.name}, call {number} with batch {batch}: {problem}"
        if sides[1].rival is not None:
            after(phase.name, sides[1].rival)
    return ""


@dataclasses.dataclass(frozen=True)
class _Phase:
    name: str
    batches: tuple[int, ...]
    training: bool


def _calls(name: str, batches: Sequence[int], training: bool) -> _Phase:
    return _Phase(name, tuple(batches), training)


def _prepare(model: nn.Module, training: bool, change: Callable[[Any], None] | None) -> None:
    model.train(training)
    if change is not None:
        change(model)


# --- one call -----------------------------------------------------------------------------------------------------


def _difference(manner: Manner, sides: tuple[_Side, _Side], batch: int, seed: int, training: bool) -> str:
    eager, rival = (_call(manner, side, batch, seed, training) for side in sides)
    if eager.error is not None or rival.error is not None:
        # A more special error is caught wherever eager's is.
        if eager.error is None or not isinstance(rival.error, type(eager.error)):
            raise Broken(f"eager: {eager.error!r}; here: {rival.error!r}") from rival.error
        return ""
    if eager.printed != rival.printed:
        return f"printed {rival.printed!r}, not {eager.printed!r}"
    return different(rival.leaves, eager.leaves)


def _call(manner: Manner, side: _Side, batch: int, seed: int, training: bool) -> _Seen:
    seen = _Seen({}, None, "")
    torch.manual_seed(seed)
    args, kwargs = manner.arguments(batch)
    tensors = [leaf for leaf in pytree.tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    for tensor in tensors:
        tensor.requires_grad_(training and tensor.is_floating_point())
    random.seed(seed)
    torch.manual_seed(seed)
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed), torch.set_grad_enabled(training):
            result = (side.model if side.rival is None else side.rival)(*args, **kwargs)
            effects = {path: side.effect(path) for path in manner.effects}
            if training:
                _train(side, result, effects)
    except Exception as error:  # which one is compared
        seen.error = error
        return seen
    seen.printed = printed.getvalue()
    seen.leaves = dict(_flat("result", result))
    seen.leaves.update(pair for path, value in effects.items() for pair in _flat(f"effect {path}", value))
    seen.leaves.update(_state(side, effects, tensors))
    if side.optimizer is not None:
        side.optimizer.step()
        side.optimizer.zero_grad()
    return seen


def _train(side: _Side, result: Any, effects: Mapping[str, Any]) -> None:
    """Backwards from everything that was returned or left behind."""
    if side.optimizer is None:
        side.optimizer = torch.optim.SGD(side.state.parameters(), lr=1e-3)
    loss = torch.zeros((), dtype=torch.float64)
    for _, leaf in (*_flat("", result), *_flat("", dict(effects))):
        if isinstance(leaf, Tensor) and leaf.requires_grad and not leaf.is_leaf:
            real = torch.view_as_real(leaf) if leaf.is_complex() else leaf
            loss = loss + (real * torch.linspace(0.5, 1.5, real.numel()).view_as(real)).sum()
    if loss.requires_grad:
        loss.backward()  # type: ignore[no-untyped-call]


def _state(side: _Side, effects: Mapping[str, Any], arguments: Sequence[Tensor]) -> Iterator[tuple[str, Any]]:
    hidden = {f"effect {path}": value for path, value in effects.items() if isinstance(value, nn.Parameter)}
    for name, parameter in (*side.state.named_parameters(), *hidden.items()):
        yield f"parameter {name}", parameter.detach().clone()
        yield f"gradient of {name}", None if parameter.grad is None else parameter.grad.clone()
    for parameter in hidden.values():  # no optimiser knows them, and so nobody else forgets their gradients
        parameter.grad = None
    for name, buffer in side.state.named_buffers():
        yield f"buffer {name}", buffer.detach().clone()
    for index, argument in enumerate(arguments):
        yield f"argument {index}", argument.detach().clone()
        yield f"gradient of argument {index}", argument.grad


def _flat(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        yield f"type of {name}", type(value).__name__
        for key in value:
            yield from _flat(f"{name}[{key!r}]", value[key])
    elif isinstance(value, tuple | list):
        yield f"type of {name}", type(value).__name__
        for index, item in enumerate(value):
            yield from _flat(f"{name}[{index}]", item)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        yield f"type of {name}", type(value).__name__
        for field in dataclasses.fields(value):
            yield from _flat(f"{name}.{field.name}", getattr(value, field.name))
    else:
        # The next call may write to what this one returned or left behind.
        yield name, value


def different(found: Mapping[str, Any], expected: Mapping[str, Any]) -> str:
    """What differs first, or ``""``."""
    if list(found) != list(expected):
        missing, more = sorted(expected.keys() - found.keys()), sorted(found.keys() - expected.keys())
        return f"lacks {missing}, has {more} in addition" if missing or more else "another order"
    peaks: dict[bool, float] = {False: 1.0, True: 1.0}
    for name, value in expected.items():
        if isinstance(value, Tensor) and value.numel() and value.dtype != torch.bool and not value.is_meta:
            finite = value.detach().abs().nan_to_num(0.0, 0.0, 0.0)
            gradient = name.startswith("gradient")
            peaks[gradient] = max(peaks[gradient], float(finite.max()))
    for name, value in expected.items():
        problem = _unlike(found[name], value, peaks[name.startswith("gradient")])
        if problem:
            return f"{name}: {problem}"
    return ""


def _unlike(found: Any, expected: Any, peak: float) -> str:
    if type(found) is not type(expected):
        return f"a {type(found).__name__}, not a {type(expected).__name__}"
    if not isinstance(expected, Tensor):
        return "" if found == expected else f"{found!r}, not {expected!r}"
    if (found.shape, found.dtype, found.device) != (expected.shape, expected.dtype, expected.device):
        return f"{found.dtype}{list(found.shape)}, not {expected.dtype}{list(expected.shape)}"
    if found.requires_grad != expected.requires_grad:
        return f"requires_grad is {found.requires_grad}"
    if expected.is_meta or torch.equal(found, expected):
        return ""
    if not (expected.is_floating_point() or expected.is_complex()):
        return f"{found.tolist()}, not {expected.tolist()}"
    bound = _ROUNDINGS * _LOG_LENGTH * torch.finfo(expected.dtype).eps * peak
    if torch.allclose(found, expected, rtol=0.0, atol=bound, equal_nan=True):
        return ""
    return f"differs by {(found - expected).detach().abs().max().item():.3g}, more than {bound:.3g}"
