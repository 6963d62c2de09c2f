"""The size of a model, counted from its declaration alone, is that of the model."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings

import tzwc.util.system_memory
from tests.support.examples import examples
from tests.support.model_strategies import build, specs
from tzwc.errors import SpecError
from tzwc.models import PRESETS, Terminator, TerminatorSpec, terminator, terminator_spec
from tzwc.models.extent import parameter_count


def _counted(model: Terminator) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@settings(max_examples=examples(30))
@given(specs())
def test_any_declaration(spec: TerminatorSpec) -> None:
    assert parameter_count(spec) == _counted(build(spec))


@pytest.mark.parametrize("figure", [False, True])
@pytest.mark.parametrize("preset", PRESETS)
def test_presets(preset: str, figure: bool) -> None:
    assert parameter_count(terminator_spec(preset, figure=figure)) == _counted(terminator(preset, figure=figure))


@pytest.mark.parametrize("kernels", ["evaluate", "interpolate"])
def test_another_resolution(kernels: str) -> None:
    model = terminator("digits").at_resolution((16, 16), kernels)  # type: ignore[arg-type]
    assert parameter_count(model.spec) == _counted(model)


def test_what_does_not_fit_is_refused_before(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = terminator_spec("digits")
    monkeypatch.setattr(tzwc.util.system_memory, "memory_of", lambda _: 1 << 20)
    with pytest.raises(SpecError, match=r"takes 1\.\d MiB, and cpu has 1\.0 MiB .* are for blocks\[\d\]\.\S+\): lower"):
        Terminator(spec)
    monkeypatch.setattr(tzwc.util.system_memory, "memory_of", lambda _: 1 << 30)
    Terminator(spec)


def test_a_model_without_memory_may_be_of_any_size() -> None:
    with torch.device("meta"):
        model = terminator("digits", sizes=(2**20, 2**20))
    assert _counted(model) == parameter_count(model.spec) > 2**43


def test_many_layers_are_counted_at_once() -> None:
    """Also where there are more than anybody could go through."""
    spec = terminator_spec("digits", local_net={"hidden": 1, "layers": 2**60})
    assert parameter_count(spec) > 2**60
    with pytest.raises(SpecError, match="PiB"):
        Terminator(spec)
