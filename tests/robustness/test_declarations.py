"""Whatever is declared becomes a declaration or a documented error; what becomes one can be told and read again."""

from __future__ import annotations

import json
from typing import Any

import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.support.examples import examples
from tests.support.hostile_input import answer, mutated, objects, texts
from tzwc.errors import InvalidArgumentError, SpecError, TzwcError
from tzwc.models import LocalSpec, SlowNetSpec, TerminatorSpec, terminator_spec
from tzwc.models.resolution import resampled_spec
from tzwc.options import CompileOptions
from tzwc.targets import InputSpec, parse_dtype, resolve
from tzwc.training import Recipe

VALID = terminator_spec("digits").to_dict()
RECIPE = Recipe(optimizer_options={"betas": (0.5, 0.9)}).to_dict()


def told(spec: Any) -> None:
    """A declaration that was accepted survives JSON, and says what it describes."""
    if isinstance(spec, TerminatorSpec):
        assert TerminatorSpec.from_dict(json.loads(json.dumps(spec.to_dict(), allow_nan=False))) == spec
        hash(spec)
        for block in range(min(spec.blocks, 4)):
            spec.concat_of(block), spec.dropout_of(block), spec.skips_of(block), spec.global_net.layers_of(block)
        [spec.taps_of(branch) for branch in spec.local], spec.channels, spec.spacing
    else:
        assert isinstance(spec, SpecError)


@settings(max_examples=examples(40))
@given(mutated(VALID, objects))
def test_specs_from_dictionaries(fields: Any) -> None:
    told(answer(lambda: TerminatorSpec.from_dict(fields)))


@settings(max_examples=examples(40))
@given(st.dictionaries(st.one_of(st.sampled_from([*VALID]), texts), objects, max_size=3))
def test_presets_with_overrides(fields: dict[str, Any]) -> None:
    told(answer(lambda: terminator_spec(**fields)))


@settings(max_examples=examples(40))
@given(objects)
def test_names_of_presets(name: Any) -> None:
    told(answer(lambda: terminator_spec(name)))


@settings(max_examples=examples(40))
@given(objects)
def test_foreign_dictionaries(fields: Any) -> None:
    told(answer(lambda: TerminatorSpec.from_dict(fields)))
    assert isinstance(answer(lambda: Recipe.from_dict(fields)), (SpecError, Recipe))


@settings(max_examples=examples(40))
@given(st.fixed_dictionaries({"hidden": objects, "layers": objects, "omega_0": objects}))
def test_slow_networks(fields: dict[str, Any]) -> None:
    assert isinstance(answer(lambda: SlowNetSpec(**fields)), (SlowNetSpec, SpecError))


@settings(max_examples=examples(40))
@given(st.fixed_dictionaries(dict.fromkeys(("name", "kernel_size", "kernel_from", "applied_to"), objects)))
def test_local_branches(fields: dict[str, Any]) -> None:
    assert isinstance(answer(lambda: LocalSpec(**fields)), (LocalSpec, SpecError))


@settings(max_examples=examples(40))
@given(mutated(RECIPE, objects))
def test_recipes(fields: Any) -> None:
    made = answer(lambda: Recipe.from_dict(fields))
    if isinstance(made, Recipe):
        assert Recipe.from_dict(json.loads(json.dumps(made.to_dict(), allow_nan=False))).to_dict() == made.to_dict()
        answer(lambda: made.make_optimizer([torch.nn.Parameter(torch.ones(1))]))
        [made.lr_at(epoch) for epoch in (0.0, made.epochs / 2, float(made.epochs))]
    else:
        assert isinstance(made, SpecError)


OPTIONS = [
    "passes",
    "backend",
    "dynamic",
    "static_sizes",
    "cache_bytes",
    "check",
    "convolution",
    "tune",
    "exact",
    "keep_buffers",
    "verify",
    "max_specialisations",
    "snapshots",
]


@settings(max_examples=examples(40))
@given(st.dictionaries(st.sampled_from(OPTIONS), objects, max_size=2))
def test_options(options: dict[str, Any]) -> None:
    assert isinstance(answer(lambda: CompileOptions(**options)), (CompileOptions, InvalidArgumentError))


@example("9" * 5000)
@settings(max_examples=examples(40))
@given(st.one_of(texts, st.from_regex(r"[0-9x:]{0,12}(float|int64)?", fullmatch=True)))
def test_sizes_of_inputs(text: str) -> None:
    made = answer(lambda: InputSpec.parse(text))
    assert isinstance(made, (InputSpec, InvalidArgumentError))
    answer(lambda: parse_dtype(text))


@settings(max_examples=examples(40))
@given(
    st.one_of(
        texts, st.sampled_from([":", "os:", ":x", "os:path", "os:system", "tests:a..b", ".:a", "a.:b", "os.path:"])
    )
)
def test_targets(target: str) -> None:
    assert isinstance(answer(lambda: resolve(target)), (torch.nn.Module, TzwcError))


@settings(max_examples=examples(40))
@given(objects, objects)
def test_resolutions(sizes: Any, kernels: Any) -> None:
    told(answer(lambda: resampled_spec(TerminatorSpec.from_dict(VALID), sizes, kernels)))
