"""A program while it is drawn: the values so far, and the lines of its constructor and of its forward."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

__all__ = ["NUMBERS", "Draft", "Statement", "Value"]

T = TypeVar("T")

NUMBERS = 7
"""How many numbers are drawn for each statement."""


@dataclass(frozen=True)
class Value:
    """A variable of the forward.

    Attributes:
        name: of the variable.
        shape: its sizes, without that of the batch.
        batched: whether the batch is its first axis; a static value, such as a hyper-kernel, has none.
        owned: whether it may be written to: neither an argument nor state, nor memory of one.
    """

    name: str
    shape: tuple[int, ...]
    batched: bool = True
    owned: bool = True


class Draft:
    """What statements write to.

    Every choice of a statement takes its next number modulo the number of choices, so a statement means something
    wherever it stands, and a shrinker may take out others before it. A 0 is the simplest choice everywhere, for an
    operand the newest value.
    """

    def __init__(self, inputs: Sequence[Value]) -> None:
        self.values = list(inputs)
        self.members: list[str] = []
        self.lines: list[str] = []
        self.layers: list[tuple[str, str]] = []
        self.read: set[str] = set()
        self._numbers: list[int] = []
        self._bound = 0

    def begin(self, numbers: Sequence[int]) -> None:
        """Let the next statement choose by ``numbers``."""
        self._numbers = list(numbers)

    def choose(self, choices: Sequence[T]) -> T:
        """One of ``choices``, by the next number."""
        number = self._numbers.pop(0) if self._numbers else 0
        return choices[number % len(choices)]

    def pick(self, fits: Callable[[Value], bool]) -> Value | None:
        """An operand that fits, the newest first."""
        fitting = [value for value in reversed(self.values) if fits(value)]
        if not fitting:
            return None
        chosen = self.choose(fitting)
        self.read.add(chosen.name)
        return chosen

    def member(self, code: str) -> str:
        """An attribute with the value of ``code``."""
        name = f"self.m{len(self.members)}"
        self.members.append(f"{name} = {code}")
        return name

    def layer(self, code: str) -> str:
        """A submodule; one that was declared in the same way before may be shared instead, or share its weight."""
        twins = [name for name, declared in self.layers if declared == code]
        sharing = self.choose(["own", "own", "shared", "tied"]) if twins else "own"
        if sharing == "shared":
            return twins[0]
        name = self.member(code)
        if sharing == "tied" and "Dropout" not in code:
            first = "[0].weight" if code.startswith("nn.Sequential") else ".weight"
            self.members.append(f"{name}{first} = {twins[0]}{first}")
        self.layers.append((name, code))
        return name

    def parameter(self, *shape: int) -> str:
        """A parameter with normally distributed elements."""
        return self.member(f"nn.Parameter(0.5 * torch.randn({', '.join(map(str, shape))}))")

    def bind(self, code: str, shape: Sequence[int], *, batched: bool = True, owned: bool = True) -> Value:
        """A new variable with the value of ``code``."""
        value = Value(f"v{self._bound}", tuple(shape), batched, owned)
        self._bound += 1
        self.lines.append(f"{value.name} = {code}")
        self.values.append(value)
        return value

    def like(self, value: Value, code: str, *, owned: bool = True) -> Value:
        """A new variable with the shape of ``value``."""
        return self.bind(code, value.shape, batched=value.batched, owned=owned)

    def write(self, code: str) -> None:
        """A line that binds nothing."""
        self.lines.append(code)

    def unread(self) -> list[Value]:
        """The computed values that no statement reads: what the program returns."""
        found = [value for value in self.values if value.name not in self.read and value.name.startswith("v")]
        return found or [self.values[-1]]


Statement = Callable[[Draft], None]
"""Adds lines to a draft, or none where no value suits it."""
