"""Every manner of the catalogue, compiled: equal to eager, and on the level that is expected."""

from __future__ import annotations

import dataclasses
import functools
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.idioms import input_dependent
from tests.idioms.__main__ import TABLE
from tests.idioms.catalogue import CATALOGUE
from tests.idioms.comparison import Broken, parting
from tests.idioms.idiom import ASSUMING, WHOLE
from tests.idioms.rivals import Eager, Tzwc

BY_NAME = {manner.name: manner for manner in CATALOGUE}
every = pytest.mark.parametrize("name", BY_NAME)
# Models do what their authors did, deprecated or not.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(autouse=True)
def _without_traces() -> Iterator[None]:
    """Without the records of every guard and shape, which torch formats as soon as anybody captures logs."""
    logging.disable(logging.INFO)
    yield
    logging.disable(logging.NOTSET)


@dataclass
class _Walked:
    """What a walk found: the first difference, the level, the remarks, and the graphs after each phase."""

    problem: str = ""
    level: str = "the first calls already differ"
    graphs: dict[str, list[Any]] = field(default_factory=dict)
    reasons: list[str] = field(default_factory=list)


@functools.cache  # one walk tells everything
def _walked(name: str) -> _Walked:
    walked = _Walked()

    def after(phase: str, rival: Any) -> None:
        walked.graphs[phase] = rival.fast.specialisations
        if phase == "evaluation":
            walked.level = rival.level
            walked.reasons = [remark.reason for remark in rival.fast.remarks]

    try:
        walked.problem = parting(BY_NAME[name], Tzwc, after=after)
    except Broken as error:
        walked.problem = f"raised, {error}"
    return walked


@every
def test_equal_to_eager(name: str) -> None:
    assert not _walked(name).problem


@every
def test_level(name: str) -> None:
    assert _walked(name).level == BY_NAME[name].level


@pytest.mark.parametrize("name", [manner.name for manner in CATALOGUE if manner.level in (WHOLE, ASSUMING)])
def test_what_keeps_the_assumptions_keeps_the_graphs(name: str) -> None:
    graphs = _walked(name).graphs
    assert "after keep" in graphs, _walked(name).problem
    assert list(map(id, graphs["after keep"])) == list(map(id, graphs["evaluation"]))


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("branch-on-input", "if x.mean() > 0:"),
        ("branch-between-modules", "if hidden.mean() > 0:"),
        ("convergence", "if (following - state).abs().max().item() < 0.3:"),
        ("item-of-input", "peak = float(x.detach().abs().max())"),
        ("selected-rows", "if chosen.any():"),
        ("python-random", "return torch.roll(x, random.randrange(5), dims=-1) * self.weight"),
        ("autograd-grad", "place = x.detach().requires_grad_()"),  # the first of the lines that no graph can hold
    ],
)
def test_what_cannot_be_captured_is_named_with_its_line(name: str, code: str) -> None:
    lines = Path(input_dependent.__file__).read_text().splitlines()
    (number,) = (n for n, line in enumerate(lines, start=1) if line.strip() == code)
    assert any(f"input_dependent.py:{number}" in reason for reason in _walked(name).reasons), _walked(name).reasons


def test_the_table_in_the_documentation_is_about_this_catalogue() -> None:
    rows = [line.split(" | ") for line in TABLE.read_text().splitlines() if line.startswith("| ")][1:]
    expected = [(f"| {manner.name}", f"works ({manner.level}) |") for manner in CATALOGUE]
    assert [(row[0], row[-1]) for row in rows] == expected, "run python -m tests.idioms"


# Whether training or evaluation comes first matters to those who leave something behind, or are not ready.
@pytest.mark.parametrize("name", [m.name for m in CATALOGUE if m.trains and (m.change is not None or m.effects)])
def test_equal_to_eager_when_training_comes_first(name: str) -> None:
    assert not parting(BY_NAME[name], Tzwc, training_first=True)


@pytest.mark.parametrize("name", [m.name for m in CATALOGUE if m.name.startswith("fft-")])
def test_rewritten_convolutions_leave_the_batch_open(name: str) -> None:
    rival = Tzwc(BY_NAME[name].make())
    with torch.no_grad():
        for batch in (3, 5, 7):
            args, kwargs = BY_NAME[name].arguments(batch)
            rival(*args, **kwargs)
    assert len(rival.fast.specialisations) == 1


# --- the suite itself ---------------------------------------------------------------------------------------------


def test_names_are_unique() -> None:
    assert len(BY_NAME) == len(CATALOGUE) >= 45


@every
def test_eager_equals_itself(name: str) -> None:
    assert not parting(BY_NAME[name], Eager)


@pytest.mark.parametrize("name", [manner.name for manner in CATALOGUE if manner.change is not None])
def test_changes_matter(name: str) -> None:
    """A rival that does not see what is changed from outside must be found out by its results."""
    manner = dataclasses.replace(BY_NAME[name], keep=None)
    assert parting(manner, lambda _: Eager(manner.make())).startswith("after change, call 0 with batch 3: result")


class Inexact(Eager):
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return super().__call__(*args, **kwargs) * (1 + 1e-9)


class WithoutGradients(Eager):
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        with torch.no_grad():
            return super().__call__(*args, **kwargs)


class Forgetful(Eager):
    """Keeps the attributes as they were before the call."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        before = dict(self.state.__dict__)
        result = super().__call__(*args, **kwargs)
        self.state.__dict__.update(before)
        return result


class Wordy(Eager):
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        print("hello")
        return super().__call__(*args, **kwargs)


@pytest.mark.parametrize(
    ("name", "rival", "problem"),
    [
        ("tied-parameters", Inexact, "evaluation, call 0 with batch 3: result: differs by"),
        ("tied-parameters", WithoutGradients, "training, call 0 with batch 3: result: requires_grad is False"),
        ("python-counter", Forgetful, "evaluation, call 0 with batch 3: effect calls: 0, not 1"),
        ("tensor-counter", Wordy, "evaluation, call 0 with batch 3: printed 'hello"),
    ],
)
def test_what_is_noticed(name: str, rival: type[Eager], problem: str) -> None:
    assert parting(BY_NAME[name], rival).startswith(problem)


def test_errors_that_eager_does_not_make() -> None:
    class Failing(Eager):
        def __call__(self, *_: Any, **__: Any) -> Any:
            raise ArithmeticError("no")

    with pytest.raises(Broken, match="no"):
        parting(BY_NAME["meta-device"], Failing)
