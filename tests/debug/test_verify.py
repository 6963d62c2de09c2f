"""The numerical gap of every stage, and the search for the rewrite that does harm."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from torch import nn

import tzwc
from tests.support import broken_passes as broken
from tests.support.programs import HyperConv, WithBuffers, example
from tzwc.debug.bisect import smallest
from tzwc.debug.reference import gap
from tzwc.passes import DEFAULT_PASSES, Pass
from tzwc.rewrite.pass_manager import Rewrite

X = torch.linspace(-1, 1, 40).reshape(5, 8)
ROOT = Path(__file__).parents[2]


def test_every_stage_of_a_sound_pipeline_is_within_the_tolerance() -> None:
    found = tzwc.verify(HyperConv(), example().float())
    assert found.ok
    assert [entry.stage for entry in found.gaps] == ["eager", "capture", *(p.name for p in DEFAULT_PASSES)]
    assert found.precision == "float64"
    assert 0 < found.gaps[0].reference < found.tolerance < 1e-5  # type: ignore[operator]
    assert found.gaps[1].before == 0  # the captured graph makes the same calls


def test_the_table_has_four_forms() -> None:
    found = tzwc.verify(broken.Chain(), X, passes=[broken.WRONG, "cse"])
    assert not found.ok
    assert found.first is not None
    assert found.first.stage == "wrong"
    console = Console(width=160)
    with console.capture() as capture:
        console.print(found)
    for text in (str(found), capture.get(), found.to_markdown()):
        assert "exceeds the tolerance" in text
        assert "wrong" in text
    assert found.to_dict()["gaps"][2]["exceeds"] is True


def test_the_backend_is_the_last_row() -> None:
    found = tzwc.verify(broken.Chain(), X, backend="aot_eager")
    assert found.gaps[-1].stage == "aot_eager"
    assert found.ok


def test_buffers_count_and_the_model_stays_as_it_was() -> None:
    class Counts(nn.Module):
        seen: torch.Tensor

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("seen", torch.zeros(8))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.seen += x.sum(0)
            return x * 2

    def drop(module: torch.fx.GraphModule, context: object) -> None:
        del context
        for node in list(module.graph.nodes):
            if node.target is torch.ops.aten.add_.Tensor:
                node.replace_all_uses_with(node.args[0])
                module.graph.erase_node(node)

    model = Counts()
    found = tzwc.verify(model, X + 2, passes=[Pass("drop", "Drop writes.", drop)])
    assert model.seen.eq(0).all()
    assert found.first is not None
    assert found.first.stage == "drop"
    assert found.first.reference == float("inf")


def test_random_models_are_compared_in_their_own_precision() -> None:
    found = tzwc.verify(WithBuffers().train(), [{"x": torch.randn(5, 4)}])
    assert found.ok
    assert "random" in found.precision


def test_a_model_in_float64_has_a_bound_from_its_float32_copy() -> None:
    found = tzwc.verify(HyperConv().double(), example())
    assert found.ok
    assert found.tolerance < 1e-12


def test_gaps_are_relative_and_strict() -> None:
    a = {"y": torch.tensor([1.0, 100.0])}
    assert gap({"y": torch.tensor([2.0, 100.0])}, a) == pytest.approx(0.01)
    assert gap({"y": torch.tensor([float("nan"), 100.0])}, a) == float("inf")
    assert gap({}, a) == float("inf")
    assert gap({"y": torch.zeros(3)}, a) == float("inf")
    assert gap({"y": torch.tensor([float("nan")])}, {"y": torch.tensor([float("nan")])}) == 0


@pytest.mark.parametrize(
    ("step", "kind", "rewrites"),
    [
        (broken.WRONG, "numbers", ["wrong_exp@exp"]),
        (broken.RAISES, "the pass raises", ["touch@tanh"]),
        (broken.ILL_FORMED, "ill-formed graph", ["swap@tanh"]),
        (broken.INTERACTING, "numbers", ["mark@exp", "mark@exp_1"]),
        (broken.SILENT, "numbers", []),
        (broken.DOES_NOT_RUN, "does not run", ["widen@add_1"]),
    ],
    ids=lambda value: value.name if isinstance(value, Pass) else "",
)
def test_bisect_finds_the_pass_and_the_smallest_set(step: Pass, kind: str, rewrites: list[str]) -> None:
    found = tzwc.bisect(broken.Chain(), X, passes=["normalize", step, "cse"])
    assert (found.pass_name, found.kind) == (step.name, kind)
    assert list(map(str, found.rewrites)) == rewrites
    assert found.before is not None
    assert found.before.name == "normalize"
    assert not found.ok
    assert step.name in str(found)
    assert found.to_dict()["rewrites"] == rewrites


@pytest.mark.parametrize("tolerance", [-1.0, float("nan"), float("inf")])
def test_a_tolerance_that_says_nothing_is_refused(tolerance: float) -> None:
    for search in (tzwc.verify, tzwc.bisect):
        with pytest.raises(tzwc.InvalidArgumentError, match="tolerance"):
            search(broken.Chain(), X, tolerance=tolerance)


def test_bisect_says_when_all_is_well_and_when_the_backend_cannot_do_it() -> None:
    assert tzwc.bisect(broken.Chain(), X).ok

    def refuses(module: torch.fx.GraphModule, inputs: Sequence[object]) -> object:
        del inputs
        if any(node.target is torch.ops.aten.cos.default for node in module.graph.nodes):
            raise NotImplementedError("cos")
        return module

    right = Pass("right", "", lambda m, c: _apply(m, c))
    found = tzwc.bisect(broken.Chain(), X, passes=["normalize", right], backend=refuses)
    assert (found.pass_name, found.kind, found.detail) == ("right", "does not run", "NotImplementedError: cos")
    assert list(map(str, found.rewrites)) == ["right_sin@sin"]
    assert found.after is not None


def _apply(module: torch.fx.GraphModule, context: tzwc.passes.Pass) -> None:
    from tzwc.rewrite.rules import apply_rules

    apply_rules(module.graph, [broken.RIGHT_SIN], context)  # type: ignore[arg-type]


def test_a_captured_graph_that_fails_is_not_blamed_on_a_pass() -> None:
    def refuses(module: torch.fx.GraphModule, inputs: Sequence[object]) -> object:
        raise NotImplementedError(f"{module}, {inputs}")

    found = tzwc.bisect(broken.Chain(), X, backend=refuses)
    assert (found.pass_name, found.kind) == ("capture", "does not run")


def test_the_script_shows_the_harm_again(tmp_path: Path) -> None:
    setup = "import torch\nfrom tests.support.broken_passes import Chain\nmodel, inputs = Chain(), torch.ones(5, 8)"
    found = tzwc.bisect(broken.Chain(), torch.ones(5, 8), passes=["cse", broken.WRONG], setup=setup)
    path = tmp_path / "harm.py"
    path.write_text(found.script)
    assert "broken_passes:WRONG" in found.script
    done = subprocess.run(
        [sys.executable, str(path)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert "exceeds the tolerance" in done.stdout
    assert "my_program" in tzwc.bisect(broken.Chain(), X, passes=[broken.RAISES]).script


def test_all_rewrites_of_the_library_can_be_withheld() -> None:
    """A pass that rewrites without asking could not be bisected."""
    only = {step.name: () for step in DEFAULT_PASSES}
    found = tzwc.verify(tzwc.models.terminator("digits", factors=(12,)).eval(), torch.rand(2, 1, 8, 8), only=only)
    assert found.ok
    rewrites = {entry.stage: entry.rewrites for entry in found.gaps if entry.rewrites is not None}
    assert set(rewrites.values()) == {0}, rewrites


@given(st.sets(st.integers(0, 19), max_size=4), st.integers(1, 20))
def test_delta_debugging_finds_a_minimal_set(culprits: set[int], count: int) -> None:
    culprits = {c for c in culprits if c < count}
    found = smallest(range(count), lambda chosen: culprits <= set(chosen))
    assert set(found) == culprits


def test_delta_debugging_of_alternatives() -> None:
    found = smallest(range(9), lambda chosen: {1, 7} <= set(chosen) or {2, 3, 4} <= set(chosen))
    assert set(found) in ({1, 7}, {2, 3, 4})
    for size in range(len(found)):
        for some in itertools.combinations(found, size):
            assert not {1, 7} <= set(some)
            assert not {2, 3, 4} <= set(some)


def test_rewrites_are_named_by_rule_and_node() -> None:
    assert str(Rewrite("gate", "mul_3")) == "gate@mul_3"
