"""The graphs of one module: which of them serves a call, and making one when none does."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from tzwc.accumulate import outside_checkpoints
from tzwc.call_key import CallKey, family_of
from tzwc.comparison import disagreement
from tzwc.errors import CaptureError, TzwcError
from tzwc.graph_capture import Capture, UnsettledError, capture_call
from tzwc.guards import ModuleGuard
from tzwc.options import CompileOptions
from tzwc.parametrized import UncachedError
from tzwc.specialisation import AssumptionViolated, Specialisation

__all__ = ["Declined", "RunOnce", "State", "Variants"]

_SETTLING = 2  # calls that may set themselves up before what they do is taken for a habit
_STATES = 4  # Python states of the module that are remembered at the same time
_RECAPTURES = 8  # graphs in a row that the same line made useless before they had served
_SERVED = 10  # calls; a kernel that grows a little every epoch is worth a graph each time


class RunOnce(Exception):
    """The module sets itself up in this call: run it as it is, and ask again at the next one."""


@dataclass(frozen=True)
class Declined:
    """Calls of a kind that has no graph, and why."""

    reason: str


@dataclass
class State:
    """What is known for one Python state of the module (flags, hooks, attributes).

    Attributes:
        guard: tells whether the module is in that state.
        table: what serves each kind of call.
        families: graphs by kind of call without sizes.
    """

    guard: ModuleGuard
    table: dict[CallKey, Specialisation | Declined] = field(default_factory=dict)
    families: dict[CallKey, list[Specialisation]] = field(default_factory=dict)


class Variants:
    """Finds and makes the graphs of ``module``.

    Args:
        module: as it was given.
        options: of ``tzwc.compile``.
        note: takes remarks: kind, rule, reason.
    """

    def __init__(self, module: nn.Module, options: CompileOptions, note: Callable[[Any, str, str], None]) -> None:
        self._module = module
        self._options = options
        self._note = note
        self._states: list[State] = []
        self._exempt: set[tuple[int, Any]] = set()
        self._settling = 0
        self._recaptures: Counter[str] = Counter()

    def __iter__(self) -> Iterator[Specialisation]:
        """Every graph, the oldest first within each state; the state of the last call comes last."""
        for state in reversed(self._states):
            for family in state.families.values():
                yield from family

    def forget(self) -> None:
        """Drop every graph."""
        self._states = []

    def current(self) -> State:
        """The state that the module is in."""
        if self._states and self._states[0].guard.holds():
            return self._states[0]
        for index, state in enumerate(self._states[1:], 1):
            if state.guard.holds():
                self._states = [state, *self._states[:index], *self._states[index + 1 :]]
                return state
        if self._states:
            self._note("note", "recapture", "captured again: modules, hooks or Python attributes have changed")
        state = State(ModuleGuard(self._module, self._exempt))
        self._states = [state, *self._states[: _STATES - 1]]
        return state

    def learn(
        self, state: State, key: CallKey, args: tuple[Any, ...], kwargs: dict[str, Any], accumulating: bool
    ) -> None:
        """Find or make what serves calls of the kind ``key``.

        Raises:
            RunOnce: the module changes its own state in this call.
        """
        if key not in state.table:
            tensors = [t for t in pytree.tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)]
            state.table[key] = self._find(state, key, tensors) or self._make(
                state, key, tensors, args, kwargs, accumulating
            )

    def stale(self, state: State, key: CallKey, violated: AssumptionViolated) -> None:
        """The graph that served ``key`` took something for granted that is no longer so."""
        served = state.table.pop(key, None)
        line = violated.assumption.line
        lasted = isinstance(served, Specialisation) and served.calls >= _SERVED
        self._recaptures[line] = 0 if lasted else self._recaptures[line] + 1
        if self._recaptures[line] > _RECAPTURES:
            state.table[key] = Declined(f"{line} keeps reading other values")
            self._note("declined", "capture", f"the module runs as it was: {line} keeps reading other values")
        else:
            self._note("note", "recapture", f"captured again: no longer so: {violated}")

    def _find(self, state: State, key: CallKey, tensors: Sequence[torch.Tensor]) -> Specialisation | None:
        for candidate in state.families.get(family_of(key), ()):
            if candidate.captured.accepts([t.shape for t in tensors]) and candidate.holds():
                return candidate
        return None

    def _make(
        self,
        state: State,
        key: CallKey,
        tensors: Sequence[torch.Tensor],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        accumulating: bool,
    ) -> Specialisation | Declined:
        limit = self._options.max_specialisations
        if sum(map(len, state.families.values())) >= limit and not _drop_oldest_useless(state):
            return self._declined(f"more than max_specialisations={limit} kinds of call")
        try:
            made = self._build(tensors, args, kwargs, accumulating)
        except (RunOnce, UncachedError):
            raise
        except Exception as error:  # whatever goes wrong in here, the module itself still gives the answer
            kind = "" if isinstance(error, TzwcError) else f"{type(error).__name__}: "
            return self._declined(f"{kind}{error}")
        self._settling = 0
        state.families.setdefault(family_of(key), []).append(made)
        habits = {(id(effect.container), effect.key) for effect in made.captured.effects if effect.habitual}
        if not habits <= self._exempt:
            self._exempt |= habits
            state.guard = ModuleGuard(self._module, self._exempt)
        return made

    def _declined(self, reason: str) -> Declined:
        self._note("declined", "capture", f"the module runs as it was: {reason}")
        return Declined(reason)

    def _build(
        self, tensors: Sequence[torch.Tensor], args: tuple[Any, ...], kwargs: dict[str, Any], accumulating: bool
    ) -> Specialisation:
        if any(t.layout != torch.strided or t.is_quantized for t in tensors):
            raise CaptureError("an argument is sparse or quantised")
        # Leaving inference mode keeps inference tensors out of the graph; gradients stay off as they are.
        grad = torch.is_grad_enabled()
        with torch.inference_mode(False), torch.set_grad_enabled(grad), outside_checkpoints():
            arguments = _ordinary((args, kwargs))
            start = time.perf_counter()
            captured = self._capture(*arguments)
            self._check(captured, *arguments)
            elapsed = time.perf_counter() - start
            # While gradients accumulate, everything static is evaluated once, with gradients.
            vary = grad and not accumulating
            varying = frozenset(slot.name for slot in captured.slots if vary and slot.fetch().requires_grad)
            return Specialisation(captured, varying, self._options, grad=grad, capture_seconds=elapsed)

    def _capture(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Capture:
        may_settle = self._settling < _SETTLING
        try:
            captured = capture_call(self._module, args, kwargs, dynamic=self._options.dynamic)
        except UnsettledError as reason:
            if may_settle:
                self._settle(str(reason))
            raise
        if captured.unsettled and may_settle:
            self._settle(captured.unsettled)
        return captured

    def _settle(self, reason: str) -> None:
        self._settling += 1
        self._note("note", "settling", f"one call ran as it was written: {reason}")
        raise RunOnce

    def _check(self, captured: Capture, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self._options.verify:
            problem = disagreement(self._module, captured, args, kwargs)
            if problem is not None:
                raise CaptureError(f"the captured graph disagrees with the module: {problem}")


def _ordinary(arguments: Any) -> Any:
    """``arguments`` with tensor objects of their own, with the same contents and strides.

    A parameter given as an argument would be no input of the graph. Inference tensors cannot be part of a graph at all
    and are copied. One tensor given twice stays one, since the program may ask.
    """
    made: dict[int, torch.Tensor] = {}

    def ordinary(leaf: torch.Tensor) -> torch.Tensor:
        if id(leaf) not in made:
            own = leaf.clone() if leaf.is_inference() else leaf.detach()
            made[id(leaf)] = own.requires_grad_(leaf.requires_grad)
        return made[id(leaf)]

    return pytree.tree_map_only(torch.Tensor, ordinary, arguments)


def _drop_oldest_useless(state: State) -> bool:
    """Forget the oldest graph whose assumptions do not hold now; whether there was one."""
    for family in state.families.values():
        for made in family:
            if not made.holds():
                family.remove(made)
                state.table = {key: runner for key, runner in state.table.items() if runner is not made}
                return True
    return False
