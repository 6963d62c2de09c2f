"""Random small modules, drawn as lists of statements and printed as Python that runs."""

from __future__ import annotations

import itertools
import linecache
from dataclasses import dataclass
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.properties.draft import NUMBERS, Draft, Statement, Value
from tests.properties.layers import LAYERS
from tests.properties.surroundings import SURROUNDINGS, in_place, randomness, state

__all__ = ["Program", "programs"]

_HEAD = "import torch\nimport torch.nn.functional as F\nfrom torch import nn\n"
_serial = itertools.count()


@dataclass(frozen=True, repr=False)
class Program:
    """A module and its arguments.

    Attributes:
        members: lines of the constructor.
        lines: lines of the forward.
        result: what it returns.
        inputs: name and shape of every argument, without the batch.
        packed: whether the arguments come as one dictionary.
        random: whether it draws random numbers in training, or at all.
    """

    members: tuple[str, ...]
    lines: tuple[str, ...]
    result: str
    inputs: tuple[tuple[str, tuple[int, ...]], ...]
    packed: bool = False
    random: bool = False

    @property
    def source(self) -> str:
        """The text of a module that defines ``Drawn`` and ``arguments(batch)``."""
        names = [name for name, _ in self.inputs]
        body = [*([f"{', '.join(names)}, = batch.values()"] if self.packed else []), *self.lines]
        shapes = [", ".join(["batch", *map(str, shape)]) for _, shape in self.inputs]
        given = [f"torch.randn({shape})" for shape in shapes]
        if self.packed:
            given = ["{" + ", ".join(f"'{n}': {g}" for n, g in zip(names, given, strict=True)) + "}"]
        text = [_HEAD, "", "class Drawn(nn.Module):"]
        text += ["    def __init__(self):", "        super().__init__()", *(f"        {line}" for line in self.members)]
        text += ["", f"    def forward(self, {'batch' if self.packed else ', '.join(names)}):"]
        text += [*(f"        {line}" for line in body), f"        return {self.result}", "", ""]
        text += ["def arguments(batch):", f"    return ({', '.join(given)},)", ""]
        return "\n".join(text)

    def __repr__(self) -> str:
        return f"\n{self.source}\n"

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """How hypothesis prints a failing example."""
        del cycle
        printer.text(repr(self))

    def namespace(self) -> dict[str, Any]:
        """What the source defines; ``inspect`` and tracebacks find its lines."""
        # A few names are enough: only the program that is being checked is ever looked at.
        name = f"<drawn program {next(_serial) % 64}>"
        linecache.cache[name] = (len(self.source), None, self.source.splitlines(keepends=True), name)
        namespace: dict[str, Any] = {"__name__": "drawn"}
        exec(compile(self.source, name, "exec"), namespace)
        return namespace

    def build(self, dtype: torch.dtype = torch.float64, *, seed: int = 0) -> nn.Module:
        """The module in evaluation mode, with reproducible parameters, none of which is 0 or 1."""
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model: nn.Module = self.namespace()["Drawn"]()
            for parameter in model.parameters():
                parameter.data += 0.1 * torch.randn_like(parameter)
        return model.to(dtype).eval()

    def tensors(self, batch: int = 3, dtype: torch.dtype = torch.float64, *, seed: int = 1) -> list[Tensor]:
        """Reproducible tensors for the arguments."""
        generator = torch.Generator().manual_seed(seed)
        shapes = [(batch, *shape) for _, shape in self.inputs]
        return [torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for shape in shapes]

    def arguments(self, tensors: list[Tensor]) -> tuple[Any, ...]:
        """The tensors as the module takes them."""
        if self.packed:
            return (dict(zip((name for name, _ in self.inputs), tensors, strict=True)),)
        return tuple(tensors)


_SHAPES = [(3, 6), (2, 4), (3, 4, 4), (4,), (1, 5), (6, 1), (2, 3, 5), (6, 8), (2, 64), (3, 8, 8)]


@st.composite
def programs(
    draw: st.DrawFn, *, random: bool = True, writes: bool = True, min_statements: int = 1, max_statements: int = 9
) -> Program:
    """Modules of one to nine statements.

    Args:
        random: with statements that draw random numbers.
        writes: with buffers that are written to, and with writes in place.
        min_statements: at least so many, of which some may not apply.
        max_statements: at most so many.
    """
    left_out: list[Statement] = [*([] if random else [randomness]), *([] if writes else [state, in_place])]
    kinds = [statement for statement in (*LAYERS, *SURROUNDINGS, *LAYERS) if statement not in left_out]
    shapes = [draw(st.sampled_from(_SHAPES))]
    if draw(st.booleans()):
        shapes.append(draw(st.sampled_from([shapes[0], (4,), (3, 6)])))
    inputs = [Value(name, shape, owned=False) for name, shape in zip("xy", shapes, strict=False)]
    draft = Draft(inputs)
    numbers = st.tuples(*(st.integers(0, 11) for _ in range(NUMBERS)))
    steps = draw(st.lists(st.tuples(st.sampled_from(kinds), numbers), min_size=min_statements, max_size=max_statements))
    for statement, choices in steps:
        draft.begin(choices)
        statement(draft)
    return Program(
        members=tuple(draft.members),
        lines=tuple(draft.lines),
        result=_packed(draw, [value.name for value in draft.unread()]),
        inputs=tuple((value.name, value.shape) for value in inputs),
        packed=draw(st.booleans()),
        random=any(word in line for line in (*draft.members, *draft.lines) for word in ("dropout", "Dropout", "rand_")),
    )


def _packed(draw: st.DrawFn, names: list[str]) -> str:
    """The results as a program returns several: a tuple, a dictionary, or one inside of the other."""
    if len(names) == 1:
        return draw(st.sampled_from([names[0], f"({names[0]}, None)", f"{{'out': {names[0]}}}"]))
    listed, first = ", ".join(names), names[0]
    keyed = ", ".join(f"'{name}': {name}" for name in names)
    rest = ", ".join(names[1:])
    return draw(st.sampled_from([f"({listed})", f"{{{keyed}}}", f"[{first}, ({rest},)]", f"{{'all': [{listed}]}}"]))
