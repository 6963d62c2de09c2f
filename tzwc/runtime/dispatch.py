"""Which graph serves a call, and making one when none does."""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

from tzwc.errors import TzwcError
from tzwc.options import CompileOptions
from tzwc.runtime.build_graph import build_graph
from tzwc.runtime.cache_key import CallKey, call_key, family_of
from tzwc.runtime.lookup import Bypass, Call, Declined, Hit, Miss
from tzwc.runtime.module_guard import ModuleGuard, WrittenEntries
from tzwc.runtime.specialisation import Outdated, Specialisation
from tzwc.tracing.capture import UnsettledError
from tzwc.tracing.parametrized import UncachedError

__all__ = ["Dispatcher"]

_SETTLING = 2  # calls that may set themselves up before what they do is taken for a habit
_STATES = 4  # Python states of the module that are remembered at the same time
_RECAPTURES = 8  # graphs in a row that the same line of the same module made useless before they had served
_SERVED = 10  # calls; a kernel that grows a little every epoch is worth a graph each time
_PAUSE, _LONGEST_PAUSE = 32, 1024  # calls without a capture after that; doubled by every further graph in the row


@dataclass(frozen=True)
class _State:
    """What is known for one Python state of the module (flags, hooks, attributes). Immutable: it is replaced.

    Attributes:
        guard: tells whether the module is in that state.
        table: what serves each kind of call.
        families: graphs by kind of call without sizes.
        paused: kinds without sizes whose graphs became useless too fast.
    """

    guard: ModuleGuard
    table: Mapping[CallKey, Specialisation | Declined] = field(default_factory=dict)
    families: Mapping[CallKey, tuple[Specialisation, ...]] = field(default_factory=dict)
    paused: Mapping[CallKey, Declined] = field(default_factory=dict)

    def with_entry(self, key: CallKey, runner: Specialisation | Declined) -> _State:
        return replace(self, table={**self.table, key: runner})

    def without_entry(self, key: CallKey, runner: Specialisation) -> _State:
        """Unless something else serves ``key`` by now."""
        return replace(self, table={k: r for k, r in self.table.items() if k != key or r is not runner})

    def with_graph(self, family: CallKey, made: Specialisation) -> _State:
        return replace(self, families={**self.families, family: (*self.families.get(family, ()), made)})

    def without_graph(self, graph: Specialisation) -> _State:
        families = {key: tuple(g for g in graphs if g is not graph) for key, graphs in self.families.items()}
        table = {key: runner for key, runner in self.table.items() if runner is not graph}
        return replace(self, families=families, table=table)

    def graphs(self) -> Iterator[Specialisation]:
        return itertools.chain.from_iterable(self.families.values())


class Dispatcher:
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
        self._lock = threading.RLock()
        self._states: tuple[_State, ...] = ()
        self._settling = 0
        self._useless: Counter[str] = Counter()  # graphs in a row, by the place that made them so

    def __iter__(self) -> Iterator[Specialisation]:
        """Every graph, the oldest first within each state; the state of the last call comes last."""
        for state in reversed(self._states):
            yield from state.graphs()

    def forget(self, reason: str) -> None:
        """Drop every graph."""
        with self._lock:
            self._states = ()
            self._note("note", "recapture", f"captured again: {reason}")

    def find(self, call: Call) -> Hit | Miss | Declined | Bypass:
        """What serves ``call``."""
        with self._lock:
            located = self._locate(call)
            if isinstance(located, Bypass):
                return located
            state, key = located
            generation = state.guard.generation
        runner = state.table.get(key)
        if runner is None:
            return Miss()
        if isinstance(runner, Declined):
            return runner if runner.applies() else Miss(runner)
        found = runner.look_up(generation)
        if not isinstance(found, Outdated):
            return Hit(runner, state.guard, found)
        if found.assumption is None:
            self.forget("a parameter or buffer has another shape, dtype, device or owner")
        else:
            self._retire(state, key, runner, found)
        return Miss()

    def learn(self, call: Call, miss: Miss) -> bool:
        """Find or make what serves ``call``, while no other call runs.

        Returns:
            False when the module sets itself up in this call: run it as it is, and ask again at the next one.

        Raises:
            UncachedError: the call is inside of ``parametrize.cached()``, which has not evaluated all weights yet.
        """
        with self._lock:
            located = self._locate(call)  # again: another thread may have changed the module, or learnt it meanwhile
            if isinstance(located, Bypass):
                return True
            state, key = located
            if state.table.get(key) is not miss.known:
                return True
            family = family_of(key)
            paused = state.paused.get(family)
            if paused is not None and paused is not miss.known:
                self._update(state.with_entry(key, paused))
                return True
            runner = _fitting(state, family, call.tensors) or self._make(state, family, call)
            if runner is None:
                return False
            state = self._newest(state)
            state = replace(state, paused={k: p for k, p in state.paused.items() if k != family})
            self._update(state.with_entry(key, runner))
            self._renew_guard(state.guard)
            return True

    def _locate(self, call: Call) -> tuple[_State, CallKey] | Bypass:
        """The state that the module is in, and the kind of the call."""
        try:
            state = self._current()
            key = call_key(state.guard, call.leaves, call.spec, call.accumulating)
        except Exception as error:  # of attributes, or of keys of a dictionary, that raise when they are compared
            return Bypass(f"something in it cannot be looked at ({type(error).__name__})")
        return Bypass("an argument is neither a tensor nor a plain constant") if key is None else (state, key)

    def _current(self) -> _State:
        for index, state in enumerate(self._states):
            if state.guard.holds():
                if index:
                    self._states = (state, *self._states[:index], *self._states[index + 1 :])
                return state
        if self._states:
            self._note("note", "recapture", "captured again: modules, hooks or Python attributes have changed")
        state = _State(ModuleGuard(self._module, self._written()))
        self._states = (state, *self._states[: _STATES - 1])
        return state

    def _newest(self, state: _State) -> _State:
        """The present version of ``state``: it may have been replaced since it was looked at."""
        return next((s for s in self._states if s.guard is state.guard), state)

    def _update(self, state: _State) -> None:
        self._states = tuple(state if s.guard is state.guard else s for s in self._states)

    def _renew_guard(self, guard: ModuleGuard) -> None:
        """Do not look at what the graphs set themselves."""
        written = self._written()
        if not guard.written.includes(written):
            renewed = ModuleGuard(self._module, written)
            self._states = tuple(replace(s, guard=renewed) if s.guard is guard else s for s in self._states)

    def _written(self) -> WrittenEntries:
        """What any of the graphs sets at every call."""
        return WrittenEntries(
            (effect.container, effect.key) for made in self for effect in made.captured.effects if effect.habitual
        )

    def _retire(self, state: _State, key: CallKey, served: Specialisation, why: Outdated) -> None:
        """The graph that served ``key`` took something for granted that is no longer so."""
        assert why.assumption is not None
        place = why.assumption.place
        with self._lock:
            state = self._newest(state).without_entry(key, served)
            first, served.outdated = not served.outdated, True
            if served.calls >= _SERVED:
                self._useless[place] = 0
            elif first:  # a graph counts once, however many kinds of call it serves and however often it comes back
                self._useless[place] += 1
            excess = self._useless[place] - _RECAPTURES
            if excess > 0:
                calls = min(_PAUSE << (excess - 1), _LONGEST_PAUSE)
                state = replace(state, paused={**state.paused, family_of(key): Declined(calls)})
                self._declined(f"{place} keeps reading other values; another graph is tried after {calls} calls")
            elif first:
                self._note("note", "recapture", f"captured again: no longer so: {why.assumption}")
            self._update(state)

    def _make(self, state: _State, family: CallKey, call: Call) -> Specialisation | Declined | None:
        """A graph for the call; ``None`` when the module sets itself up in it."""
        limit = self._options.max_specialisations
        if sum(1 for _ in state.graphs()) >= limit:
            useless = next((made for made in state.graphs() if not made.holds()), None)
            if useless is None:
                return self._declined(f"more than max_specialisations={limit} kinds of call")
            self._update(state.without_graph(useless))
        may_settle = self._settling < _SETTLING
        try:
            made = build_graph(
                self._module,
                self._options,
                call.args,
                call.kwargs,
                accumulating=call.accumulating,
                may_settle=may_settle,
            )
        except UncachedError:
            raise
        except Exception as error:  # whatever goes wrong in here, the module itself still gives the answer
            if isinstance(error, UnsettledError) and may_settle:
                self._settling += 1
                self._note("note", "settling", f"one call ran as it was written: {error}")
                return None
            kind = "" if isinstance(error, TzwcError) else f"{type(error).__name__}: "
            return self._declined(f"{kind}{error}")
        self._settling = 0
        self._update(self._newest(state).with_graph(family, made))
        return made

    def _declined(self, reason: str) -> Declined:
        self._note("declined", "capture", f"the module runs as it was: {reason}")
        return Declined()


def _fitting(state: _State, family: CallKey, tensors: Sequence[torch.Tensor]) -> Specialisation | None:
    shapes = [t.shape for t in tensors]
    return next((m for m in state.families.get(family, ()) if m.captured.accepts(shapes) and m.holds()), None)
