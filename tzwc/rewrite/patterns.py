"""Patterns of a few calls of a graph, with names for their parts; :mod:`tzwc.rewrite.rules` rewrites what they find.

>>> op(aten.mul.Tensor, op(aten.mul.Tensor, any_("z"), any_("k"), commutative=True), any_("z"), commutative=True)

A name that occurs twice must stand for the same node, and constants match exactly: in type, value and sign of zero.
Arguments that a pattern does not mention must have their defaults.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import fx
from torch.fx.node import Target

from tzwc._torch.operators import OpOverload
from tzwc.ir.graph import target_name

__all__ = ["Miss", "Pattern", "State", "any_", "call_arguments", "const", "either", "op", "same_constant"]

_MISSING: Any = object()


def call_arguments(node: fx.Node) -> dict[str, Any]:
    """The arguments of ``node`` by name, in order, with defaults filled in (for operators, which have a schema)."""
    if not isinstance(node.target, OpOverload):
        return {str(i): a for i, a in enumerate(node.args)} | dict(node.kwargs)
    named: dict[str, Any] = {}
    for position, argument in enumerate(node.target._schema.arguments):
        default = argument.default_value if argument.has_default_value() else None
        value = node.args[position] if position < len(node.args) else node.kwargs.get(argument.name, default)
        named[argument.name] = value
    return named


def same_constant(a: object, b: object) -> bool:
    """Exact equality: type, value, sign of zero; NaN equals NaN; sequences element by element."""
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        return len(a) == len(b) and all(same_constant(x, y) for x, y in zip(a, b, strict=True))
    if type(a) is not type(b):
        return False
    if isinstance(a, float) and isinstance(b, float):
        return (math.isnan(a) and math.isnan(b)) or (a == b and math.copysign(1.0, a) == math.copysign(1.0, b))
    return bool(a == b)


@dataclass
class State:
    """Bindings so far, and the deepest failure seen, for near misses."""

    captures: dict[str, Any] = field(default_factory=dict)
    nodes: tuple[fx.Node, ...] = ()

    def bind(self, name: str, value: object) -> State | None:
        if not name:
            return self
        if name in self.captures:
            bound = self.captures[name]
            return self if bound is value or same_constant(bound, value) else None
        return State({**self.captures, name: value}, self.nodes)


@dataclass
class Miss:
    """The attempt that got furthest: how many calls fitted, which, and the first condition that did not hold."""

    depth: int = 0
    reason: str = ""
    nodes: tuple[fx.Node, ...] = ()

    def note(self, state: State, reason: str) -> None:
        """Remember a failure unless an earlier one came as far."""
        if len(state.nodes) > self.depth:
            self.depth, self.reason, self.nodes = len(state.nodes), reason, state.nodes


class Pattern:
    """A description of an argument; ``walk`` yields every way in which ``value`` fits it."""

    def walk(self, value: object, state: State, miss: Miss) -> Iterator[State]:
        raise NotImplementedError

    def anchors(self) -> frozenset[Target] | None:
        """The targets that a matching call can have; ``None`` when any could."""
        return None


@dataclass(frozen=True)
class Any_(Pattern):
    name: str

    def walk(self, value: object, state: State, miss: Miss) -> Iterator[State]:
        bound = state.bind(self.name, value) if isinstance(value, fx.Node) else None
        if bound is not None:
            yield bound
        elif isinstance(value, fx.Node):
            miss.note(state, f"{self.name!r} would have to be both {state.captures[self.name]} and {value}")
        else:
            miss.note(state, f"{self.name!r} is the constant {value!r}, not a tensor")


@dataclass(frozen=True)
class Const(Pattern):
    value: object

    def walk(self, value: object, state: State, miss: Miss) -> Iterator[State]:
        if same_constant(self.value, value):
            yield state
        else:
            miss.note(state, f"{value!r} is not exactly {self.value!r}")


@dataclass(frozen=True)
class Either(Pattern):
    options: tuple[Pattern, ...]

    def walk(self, value: object, state: State, miss: Miss) -> Iterator[State]:
        for option in self.options:
            yield from option.walk(value, state, miss)

    def anchors(self) -> frozenset[Target] | None:
        found = [option.anchors() for option in self.options]
        return None if None in found else frozenset(t for targets in found if targets for t in targets)


@dataclass(frozen=True)
class Op(Pattern):
    target: Target
    args: tuple[Pattern, ...]
    commutative: bool
    name: str
    any_rest: bool

    def anchors(self) -> frozenset[Target] | None:
        return frozenset((self.target,))

    def walk(self, value: object, state: State, miss: Miss) -> Iterator[State]:
        if not isinstance(value, fx.Node) or value.target is not self.target:
            found = target_name(value.target) if isinstance(value, fx.Node) else repr(value)
            miss.note(state, f"{found} stands where {target_name(self.target)} is expected")
            return
        named = state.bind(self.name, value)
        if named is None:
            miss.note(state, f"{self.name!r} would have to be both {state.captures[self.name]} and {value}")
            return
        inside = State(named.captures, (*named.nodes, value))
        given = list(call_arguments(value).values())
        if not self.any_rest:
            trailing = State(inside.captures, inside.nodes)
            for extra, default in zip(given[len(self.args) :], _defaults(value)[len(self.args) :], strict=True):
                if not same_constant(extra, default):
                    miss.note(trailing, f"{value} has the extra argument {extra!r}")
                    return
        yield from self._walk_arguments(given[: len(self.args)], inside, miss)
        if self.commutative:
            yield from self._walk_arguments([given[1], given[0], *given[2 : len(self.args)]], inside, miss)

    def _walk_arguments(self, given: Sequence[object], state: State, miss: Miss) -> Iterator[State]:
        def step(position: int, current: State) -> Iterator[State]:
            if position == len(self.args):
                yield current
                return
            for found in self.args[position].walk(given[position], current, miss):
                yield from step(position + 1, found)

        if len(given) == len(self.args):
            yield from step(0, state)
        else:
            miss.note(state, f"{state.nodes[-1]} has {len(given)} arguments where {len(self.args)} are expected")


def _defaults(node: fx.Node) -> list[object]:
    if not isinstance(node.target, OpOverload):
        return [_MISSING] * (len(node.args) + len(node.kwargs))
    return [a.default_value if a.has_default_value() else None for a in node.target._schema.arguments]


def any_(name: str) -> Pattern:
    """Any node, under a name."""
    return Any_(name)


def const(value: object) -> Pattern:
    """Exactly this constant."""
    return Const(value)


def either(*options: Pattern) -> Pattern:
    """The first option that leads to a match of the whole pattern."""
    return Either(options)


def op(target: Target, *args: Pattern, commutative: bool = False, name: str = "", any_rest: bool = False) -> Pattern:
    """A call of ``target``.

    Args:
        target: the operator overload or Python function.
        args: patterns of the leading arguments.
        commutative: also try the first two arguments the other way round.
        name: capture the call itself under this name.
        any_rest: admit any values for arguments without a pattern; otherwise they must have their defaults.
    """
    return Op(target, args, commutative, name, any_rest)
