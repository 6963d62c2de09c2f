"""What tzwc.verify and tzwc.bisect do with models that are unlike others, and what they say about them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import Tensor, nn

import tzwc
from tests.support import broken_passes as broken
from tests.support.faithful import Written
from tzwc.debug.reference import gap
from tzwc.passes import Pass

X = torch.linspace(-1, 1, 40).reshape(5, 8)


@pytest.mark.parametrize("search", [tzwc.verify, tzwc.bisect])
@pytest.mark.parametrize(
    ("model", "inputs", "said"),
    [
        (torch.sin, X, "model=<built-in method sin .*> is a builtin_function_or_method; give a torch.nn.Module"),
        (nn.ReLU(), 3, "inputs=3: expected a tensor, or a list with one entry for each argument"),
        (nn.ReLU(), {"x": 1}, "inputs={'x': 1}: expected a tensor, or a list"),
    ],
)
def test_what_cannot_be_tried(search: Callable[..., Any], model: Any, inputs: Any, said: str) -> None:
    with pytest.raises(tzwc.InvalidArgumentError, match=said):
        search(model, inputs)


def test_a_compiled_model_brings_its_options() -> None:
    fast = tzwc.compile(broken.Chain(), backend="inductor", passes=["cse", broken.WRONG])
    found = tzwc.verify(fast, X)
    assert [entry.stage for entry in found.gaps] == ["eager", "capture", "cse", "wrong"]  # and no backend
    assert not found.ok
    assert tzwc.verify(fast, X, passes=["cse"]).ok
    assert fast.specialisations == []


@pytest.mark.parametrize(
    ("step", "stages", "problem"),
    [
        (broken.RAISES, ["eager", "capture", "raises"], "ZeroDivisionError: no hyperbolic functions today"),
        (broken.DOES_NOT_RUN, ["eager", "capture", "does_not_run"], "does not run: "),
    ],
)
def test_the_table_ends_where_something_fails(step: Pass, stages: list[str], problem: str) -> None:
    found = tzwc.verify(broken.Chain(), X, passes=[step, "cse"])
    assert [entry.stage for entry in found.gaps] == stages
    assert found.first is found.gaps[-1]
    assert problem in found.gaps[-1].problem
    assert step.name in str(found)


def _lazy(module: Any, x: Tensor) -> Tensor:
    if module.kept is None:
        module.kept = x.detach().mean(0)
    return x - module.kept


def _restless(module: Any, x: Tensor) -> Tensor:
    module.kept = None if module.kept is not None else x.mean(0)
    return 2 * x


def test_a_model_that_sets_itself_up_is_called_until_it_has() -> None:
    model = Written(_lazy, kept=None)
    found = tzwc.verify(model, X)
    assert found.ok
    assert model.kept is None
    with pytest.raises(tzwc.CaptureError, match="forward sets 'kept' to None"):
        tzwc.verify(Written(_restless, kept=None), X)


def _insists(dtype: torch.dtype) -> Callable[..., Tensor]:
    def forward(module: Any, x: Tensor) -> Tensor:
        if x.dtype != dtype:
            raise TypeError(f"give {dtype}")
        return (x * module.plain).exp()

    return forward


def test_a_model_that_insists_on_its_precision() -> None:
    found = tzwc.verify(Written(_insists(torch.float32), plain=torch.ones(8)), X)
    assert found.ok
    assert found.precision == "the model's own: in float64 it fails (TypeError: give torch.float32)"
    found = tzwc.verify(Written(_insists(torch.float64), plain=torch.ones(8).double()), X.double())
    assert found.ok
    assert found.precision == "float64"
    assert found.tolerance == 64 * torch.finfo(torch.float64).eps  # no float32 copy shows more


def test_tensors_that_are_no_buffers_are_in_float64_as_well() -> None:
    plain = torch.linspace(0, 1, 8)
    found = tzwc.verify(Written(lambda m, x: (x * m.plain).exp(), plain=plain), X)
    exact = (X.double() * plain.double()).exp()
    eager = (X * plain).exp()
    assert found.gaps[0].reference == pytest.approx(((eager - exact).abs().max() / exact.max()).item())


def test_what_has_no_elements_is_equal_or_has_another_shape() -> None:
    assert gap({"y": torch.zeros(0, 2)}, {"y": torch.zeros(0, 2)}) == 0
    assert gap({"y": torch.zeros(0, 3)}, {"y": torch.zeros(0, 2)}) == float("inf")
    assert gap({"y": 2}, {"y": 2}) == 0
    assert gap({"y": 2.0}, {"y": 2}) == float("inf")


def test_a_captured_graph_that_fails_in_all_forms() -> None:
    def refuses(*given: object) -> object:
        raise NotImplementedError(f"{len(given)} arguments")

    found = tzwc.bisect(broken.Chain(), X, backend=refuses)
    assert "capture (does not run)" in str(found)
    assert "without any rewrite" not in str(found)
    assert "NotImplementedError: 2 arguments" in found.to_markdown()


CSE = Pass("cse", "Has the name of another pass.", broken.WRONG.run)


def test_what_was_found_has_its_script_and_its_change() -> None:
    found = tzwc.bisect(broken.Chain(), X, passes=["normalize", CSE])
    assert "passes=['normalize', 'tests.debug.test_reference:CSE']" in found.script
    assert found.to_markdown().endswith(f"```python\n{found.script}```\n")
    console = Console(width=160)
    with console.capture() as capture:
        console.print(found)
    for text in (capture.get(), str(found)):
        assert "exp2" in text
