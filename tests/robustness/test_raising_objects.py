"""Objects whose methods raise, wherever one can be given: a result, or an error that says what was given."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import tzwc
from tests.support.examples import examples
from tests.support.hostile_input import answer
from tests.support.measurement_files import PROBLEM
from tests.support.raising_objects import METHODS, VALUES, unkind, unkind_objects
from tests.support.tiny_model import Tiny
from tests.support.valid_files import valid
from tzwc.autotune.choice import choose
from tzwc.data import Dataset, load
from tzwc.errors import TzwcError
from tzwc.inspection.load import load_stage
from tzwc.lowering.gpu.target import Target
from tzwc.models import Kar3, LocalSpec, SlowNetSpec, TerminatorSpec, load_released, terminator, terminator_spec
from tzwc.models.resolution import resampled_spec
from tzwc.options import CompileOptions
from tzwc.targets import InputSpec, parse_dtype, resolve
from tzwc.training import Checkpoint, Recipe, task
from tzwc.training.prediction import read_input

DIGITS = terminator_spec("digits")
VALID, RECIPE = DIGITS.to_dict(), Recipe().to_dict()
BRANCH = VALID["local"][0]
FAST = tzwc.compile(Tiny(), backend="eager")


def _told(made: Any) -> None:
    """What was accepted holds plain values only."""
    json.dumps(made.to_dict(), allow_nan=False)
    repr(made)
    assert made == made


def _net(**fields: Any) -> None:
    repr(SlowNetSpec(**{"hidden": 4, **fields}))
    _told(terminator_spec("digits", hci_net=fields))


def _branch(**fields: Any) -> None:
    repr(LocalSpec(**{**BRANCH, **fields}))
    _told(TerminatorSpec.from_dict({**VALID, "local": [{**BRANCH, **fields}, *VALID["local"][1:]]}))


def _field(name: str, given: Any) -> None:
    answer(lambda: _told(TerminatorSpec.from_dict({**VALID, name: given})))
    answer(lambda: _told(TerminatorSpec.from_dict({**VALID, name: [given]})))
    _told(terminator_spec("digits", **{name: given}))


def _recipe_field(name: str, given: Any) -> None:
    _told(Recipe.from_dict({**RECIPE, name: given}))


def _option(name: str, given: Any) -> None:
    answer(lambda: CompileOptions(**{name: given}))
    tzwc.compile(Tiny(), **{name: given})


def _as(call: Callable[..., None], name: str) -> Callable[[Any], None]:
    return lambda given: call(**{name: given})


@functools.cache
def _samples() -> Dataset:
    return load("digits")


PLACES: dict[str, Callable[[Any], object]] = {
    **{f"spec: {field.name}": partial(_field, field.name) for field in dataclasses.fields(TerminatorSpec)},
    **{f"slow network: {name}": _as(_net, name) for name in ("hidden", "layers", "omega_0")},
    **{f"branch: {name}": _as(_branch, name) for name in BRANCH},
    **{f"recipe: {name}": partial(_recipe_field, name) for name in RECIPE},
    **{f"option: {name}": partial(_option, name) for name in CompileOptions.__dataclass_fields__},
    "fields of a spec": lambda x: _told(TerminatorSpec.from_dict(x)),
    "fields of a recipe": lambda x: _told(Recipe.from_dict(x)),
    "an option of an optimiser": lambda x: json.dumps(Recipe(optimizer_options={"betas": x}).to_dict()),
    "preset": lambda x: _told(terminator_spec(x)),
    "figure": lambda x: _told(terminator_spec("digits", figure=x)),
    "model": lambda x: tzwc.compile(x, backend="eager"),
    "a pass among passes": lambda x: tzwc.compile(Tiny(), passes=[x]),
    "model to verify": lambda x: tzwc.verify(x, torch.ones(2, 3)),
    "tolerance": lambda x: tzwc.verify(Tiny(), torch.ones(2, 3), tolerance=x, passes=[]),
    "passes to bisect": lambda x: tzwc.bisect(Tiny(), torch.ones(2, 3), passes=x),
    "sizes": lambda x: terminator("digits").at_resolution(x),
    "a size": lambda x: _told(resampled_spec(DIGITS, [x, x], "evaluate")),
    "kernels": lambda x: _told(resampled_spec(DIGITS, (8, 8), x)),
    "sizes of an input": InputSpec.parse,
    "dtype": parse_dtype,
    "target": resolve,
    "data set": load,
    "folder of a data set": lambda x: load("mnist", x),
    "released state": load_released,
    "tensor of a state": lambda x: load_released({**valid(), "out_layer.bias": x}),
    "path of a stage": load_stage,
    "text of a stage": tzwc.Stage.from_json,
    "data of a stage": tzwc.Stage.from_dict,
    "data of a graph": lambda x: tzwc.Stage.from_dict({"name": "x", "seconds": 0.0, "remarks": [], "graph": x}),
    "checkpoint": Checkpoint.load,
    "input to predict": lambda x: read_input(x, DIGITS),
    "name of a stage": FAST.stage,
    "name of a task": task,
    "way to choose": lambda x: choose(PROBLEM, tune=x),
    "name of a pass": tzwc.passes.by_name,
    "target to lower for": Target.parse,
    "learning rate": lambda x: Kar3([nn.Parameter(torch.ones(1))], lr=x),
    "betas": lambda x: Kar3([nn.Parameter(torch.ones(1))], betas=x),
    "sizes of samples": lambda x: _samples().resized(x),
    "a size of samples": lambda x: _samples().resized([x, x]),
}


@pytest.mark.parametrize("place", PLACES)
@settings(max_examples=examples(4))
@given(unkind_objects)
def test_places(place: str, given: Any) -> None:
    answer(lambda: PLACES[place](given))


class Given(nn.Module):
    """Returns what it is given, and something that needs a graph."""

    def forward(self, x: Tensor, *given: Any) -> Any:
        return x.exp() * 2, given


class Using(nn.Module):
    def forward(self, x: Tensor, given: Any) -> Tensor:
        return x * given if given == 2 or given else x


class Holding(nn.Module):
    """Has such an object for an attribute."""

    def __init__(self, held: Any) -> None:
        super().__init__()
        self.__dict__["held"] = held  # which nn.Module would look at

    def forward(self, x: Tensor) -> Tensor:
        return x.exp() * (2 if self.held is None else 3)


def _outcome(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except Exception as error:
        return type(error)


def _same(model: nn.Module, *arguments: Any) -> None:
    """The result of the module itself, the objects in it being the same ones, or an error of the same kind; twice."""
    expected = _outcome(lambda: model(*arguments))
    made = answer(lambda: tzwc.compile(model, backend="eager"))
    if isinstance(made, TzwcError):
        return
    for _ in range(2):
        found = _outcome(lambda: made(*arguments))
        if isinstance(expected, tuple):
            assert torch.equal(found[0], expected[0])
            assert all(map(_is_same, found[1], expected[1]))
        elif isinstance(expected, Tensor):
            assert torch.equal(found, expected)
        else:
            assert found is expected


def _is_same(a: Any, b: Any) -> bool:
    if type(a) in (list, tuple, dict):
        a, b = (list(x.values()) if type(x) is dict else x for x in (a, b))
        return len(a) == len(b) and all(map(_is_same, a, b))
    return a is b


def _kept(value: Any) -> Any:
    """As a key where it can be one."""
    try:
        return {value: 1}
    except Exception:
        return None


@settings(max_examples=examples(24))
@given(unkind_objects, st.sampled_from([lambda x: x, lambda x: [x], lambda x: {"a": x}, _kept]))
def test_arguments_of_calls(given: Any, within: Callable[[Any], Any]) -> None:
    x = torch.linspace(-1, 1, 6)
    _same(Given(), x, within(given))
    _same(Using(), x, within(given))


@settings(max_examples=examples(24))
@given(unkind_objects)
def test_attributes_of_modules(held: Any) -> None:
    _same(Holding(held), torch.linspace(-1, 1, 6))


@pytest.mark.parametrize("method", METHODS)
def test_modules(method: str) -> None:
    _same(unkind(VALUES["module"], method), torch.ones(2, 3))
