"""``torch.compile(model, backend="tzwc")``: passes, options, fall-backs, and agreement with ``tzwc.compile``."""

from __future__ import annotations

import gc
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import tzwc
from tests.idioms.catalogue import CATALOGUE
from tests.support.blocks import one_block
from tests.support.dynamo_testing import close, compiled_graphs, gradients, hyper, remarks, through_dynamo
from tests.support.programs import example
from tzwc.dynamo import compiled_graph
from tzwc.dynamo.backend import inductor_settings
from tzwc.models import Terminator

pytestmark = pytest.mark.usefixtures("fresh_dynamo")


# --- the passes -------------------------------------------------------------------------------------------------------


def test_the_passes_run_on_a_declared_model() -> None:
    torch.manual_seed(0)
    model = Terminator(one_block()).double().eval()
    fast = through_dynamo(model, fullgraph=True)
    x = torch.randn(3, 2, 6, 6, dtype=torch.float64)
    with torch.no_grad():
        close(fast(x), model(x))
    (graph,) = compiled_graphs()
    names = [stage.name for stage in graph.stages]
    assert names[0] == "capture"
    assert names[-1] == "hoist_static"
    applied = {stage.name for stage in graph.stages for remark in stage.remarks if remark.kind == "applied"}
    assert {"fuse_hyperzzw", "hoist_static"} <= applied
    located = [node.meta["stack_trace"] for node in graph.stages[0].graph.nodes if node.op == "call_function"]
    assert all(located)
    assert "fuse_hyperzzw" in str(graph.report())
    for found, expected in zip(gradients(model, fast, x), gradients(model, model, x), strict=True):
        close(found, expected)


def test_origins_are_the_users() -> None:
    model = hyper()
    with torch.no_grad():
        through_dynamo(model)(example())
    (graph,) = compiled_graphs()
    paths = {
        path for n in graph.stages[0].graph.nodes for path in n.meta.get("nn_module_stack", {}) if n.op != "placeholder"
    }
    assert {"slow.0", "slow.2", "enter", "leave"} <= paths
    assert graph.retraced is not None
    assert graph.retraced.inputs == ("x",)


def test_passes_can_be_chosen() -> None:
    model = hyper()
    with torch.no_grad():
        through_dynamo(model, options={"passes": ["cse"], "check": "version", "cache_bytes": 0})(example())
    (graph,) = compiled_graphs()
    assert [stage.name for stage in graph.stages] == ["capture", "cse"]


def test_graphs_are_held_weakly() -> None:
    fast = through_dynamo(hyper())
    with torch.no_grad():
        fast(example())
    assert len(compiled_graphs()) == 1
    torch._dynamo.reset()
    gc.collect()
    assert compiled_graphs() == []


# --- errors and fall-backs --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pases": []}, "unknown option 'pases'; choose from .*'passes'"),
        ({"check": "sometimes"}, "check='sometimes'"),
        ({"passes": ["nonesuch"]}, "nonesuch"),
        ({"backend": "nonesuch"}, "nonesuch"),
        ({"backend": "tzwc"}, "inside of itself"),
    ],
)
def test_options_that_cannot_be_used(options: dict[str, Any], message: str) -> None:
    fast = torch.compile(hyper(), backend="tzwc", options=options)
    with pytest.raises(tzwc.InvalidArgumentError, match=message):
        fast(example())


def test_mode_is_checked() -> None:
    fast = torch.compile(hyper(), backend="tzwc", mode="fastest")
    with pytest.raises(tzwc.InvalidArgumentError, match="mode='fastest' is not one of"):
        fast(example())


def test_a_mode_sets_inductors_configuration() -> None:
    assert inductor_settings("max-autotune")["max_autotune"] is True
    assert inductor_settings("default") == inductor_settings(None) == {}


def test_tzwc_is_not_a_backend_for_itself() -> None:
    with pytest.raises(tzwc.InvalidArgumentError, match="backend='tzwc'"):
        tzwc.compile(hyper(), backend="tzwc")


def test_a_failing_inner_backend_leaves_the_graph_to_eager() -> None:
    def failing(*_: Any) -> Any:
        raise RuntimeError("no such luck")

    def failing_later(*_: Any) -> Any:
        return failing

    model = hyper()
    for inner in (failing, failing_later):
        torch._dynamo.reset()
        with torch.no_grad():
            close(through_dynamo(model, inner)(example()), model(example()))
        assert any("no such luck" in reason for reason in remarks())


def test_a_failing_pass_leaves_the_graph_to_the_inner_backend() -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("a defect")

    model = hyper()
    with torch.no_grad():
        fast = through_dynamo(model, options={"passes": [tzwc.passes.Pass("broken", "Fails.", fail)]})
        close(fast(example()), model(example()))
    assert any("a defect" in reason for reason in remarks())
    (graph,) = compiled_graphs()
    assert graph.stages == []
    assert "untouched" in str(graph.report())


def test_an_argument_that_is_written_to_is_left_to_the_inner_backend() -> None:
    model = nn.Linear(4, 4).double()

    def run(x: Tensor) -> Tensor:
        x.add_(1)
        out: Tensor = model(x)
        return out

    x, y = torch.zeros(2, 4, dtype=torch.float64), torch.zeros(2, 4, dtype=torch.float64)
    with torch.no_grad():
        close(through_dynamo(run)(x), run(y))
    assert torch.equal(x, y)
    assert any("is written to" in reason for reason in remarks())


def test_a_graph_that_would_compute_something_else_is_left_to_the_inner_backend(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(compiled_graph, "disagreement", lambda *_: "result 0: off by 1")
    model = hyper()
    with torch.no_grad():
        close(through_dynamo(model)(example()), model(example()))
    assert remarks() == ["the passes were not used: the traced graph disagrees with Dynamo's: result 0: off by 1"]


def _branches(x: Tensor) -> Tensor:
    result: Tensor = torch.cond(x.sum() > 0, torch.sin, torch.cos, (x,))
    return result


def _mapped(x: Tensor) -> Tensor:
    result: Tensor = torch.vmap(lambda row: row.sin() / row.norm())(x)
    return result


@pytest.mark.parametrize(
    ("run", "reason"), [(_branches, "calls the higher-order operator cond"), (_mapped, "row.norm())(x) calls ")]
)
def test_what_has_no_form_as_operators_is_left_to_the_inner_backend(run: Any, reason: str) -> None:
    x = torch.randn(3, 4, dtype=torch.float64)
    with torch.no_grad():
        close(through_dynamo(run, "eager")(x), run(x))
    (said,) = remarks()
    assert said.startswith("the passes were not used: ")
    assert reason in said


# --- agreement with tzwc.compile --------------------------------------------------------------------------------------

_WHOLE = [
    "lazy-flag-python", "moving-average", "parameters-in-list", "data-read", "in-place-kernel", "tied-parameters",
    "weight-norm-new", "forward-hook", "own-autograd-function", "dictionaries", "dataclass-out", "batch-norm",
    "attention", "recurrence", "fft-causal-2l", "hyena", "s4d", "einsum",
]  # fmt: skip


@pytest.mark.parametrize("name", _WHOLE)
def test_agreement_with_tzwc_compile(name: str) -> None:
    manner = next(m for m in CATALOGUE if m.name == name)
    mine, theirs = manner.make(), manner.make()
    fast, other = through_dynamo(mine, fullgraph=True), tzwc.compile(theirs, backend="eager")
    for batch in (3, 2):
        torch.manual_seed(batch)
        args, kwargs = manner.arguments(batch)
        results = []
        for run in (fast, other):
            torch.manual_seed(7)
            with torch.no_grad():
                results.append(_tensors(run(*args, **kwargs)))
        for found, expected in zip(*results, strict=True):
            close(found, expected)
    assert remarks() == []


def _tensors(result: Any) -> list[Tensor]:
    fields = vars(result).values() if hasattr(result, "__dataclass_fields__") else result
    leaves = torch.utils._pytree.tree_leaves(list(fields) if fields is not result else result)
    return [leaf for leaf in leaves if isinstance(leaf, Tensor)]


@pytest.mark.inductor
def test_through_inductor() -> None:
    model = hyper()
    fast = torch.compile(model, backend="tzwc", dynamic=True)

    def near(found: Tensor, expected: Tensor) -> None:
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-10 * max(1.0, expected.abs().max().item()))

    with torch.no_grad():
        for batch in (3, 5):
            near(fast(example(batch)), model(example(batch)))
        model.slow[0].weight.mul_(2)
        near(fast(example()), model(example()))
    for found, expected in zip(gradients(model, fast, example()), gradients(model, model, example()), strict=True):
        near(found, expected)
    assert remarks() == []
