"""Every single pass, and every prefix of the pipeline, leaves results, gradients and kept values unchanged."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from torch import Tensor, fx

import tzwc
from tests.support.examples import examples
from tests.support.model_strategies import build, example_input, specs
from tests.support.programs import HyperConv, example
from tzwc.models import TerminatorSpec
from tzwc.partition.partitioner import split
from tzwc.passes import DEFAULT_PASSES
from tzwc.rewrite.pass_manager import Pass, PassContext, run_pipeline, snapshot
from tzwc.tracing.capture import Capture

# A rewrite may round differently, and the standardisations of a block magnify that: each divides by a deviation that
# can be as small as sqrt(1e-5). The bound is the one promised to users for float64.
PROMISED = 1e-10

SINGLES = [(p,) for p in DEFAULT_PASSES]
PREFIXES = [DEFAULT_PASSES[:n] for n in range(len(DEFAULT_PASSES) + 1)]
OPTIONS = {"cache_bytes": None, "convolution": "auto"}


def rewritten(captured: Capture, passes: Sequence[Pass], convolution: str = "auto") -> fx.GraphModule:
    module = fx.GraphModule(captured.module, snapshot(captured.module.graph))
    slots = frozenset(slot.name for slot in captured.slots)
    run_pipeline(module, passes, options={**OPTIONS, "convolution": convolution}, static_slots=slots)
    return module


def results(captured: Capture, module: fx.GraphModule, x: Tensor) -> Tensor:
    """Run through the split, so that kept values take part."""
    parts = split(module, [slot.name for slot in captured.slots], captured.inputs)
    slots = {slot.name: slot.fetch() for slot in captured.slots}
    kept = parts.program.evaluate(slots, range(len(parts.program.values)))
    (result,) = parts.residual(*(slots[name] for name in parts.slots), *kept, x)
    assert isinstance(result, Tensor)
    return result


def assert_close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=PROMISED * max(1.0, expected.detach().abs().max().item()))


def assert_gradients_close(pairs: list[tuple[Tensor | None, Tensor | None]]) -> None:
    """One scale for all: many true gradients are zero, in front of a standardisation."""
    scale = max([1.0, *(b.abs().max().item() for _, b in pairs if b is not None)])
    for a, b in pairs:
        assert (a is None) == (b is None)
        if a is not None and b is not None:
            torch.testing.assert_close(a, b, rtol=0, atol=1e-8 * scale)


@settings(max_examples=examples(4))
@given(specs())
def test_every_pass_and_every_prefix_keeps_the_result(spec: TerminatorSpec) -> None:
    model, x = build(spec), example_input(spec)
    with torch.no_grad():
        captured = tzwc.capture(model, x)
        expected = model(x)
        for passes in [*SINGLES, *PREFIXES]:
            assert_close(results(captured, rewritten(captured, passes), x), expected)


@settings(max_examples=examples(3))
@given(specs())
def test_the_pipeline_keeps_all_gradients_in_training(spec: TerminatorSpec) -> None:
    model, x = build(spec).train(), example_input(spec)
    captured = tzwc.capture(model, x)
    for convolution in ("auto", "fft"):
        module = rewritten(captured, DEFAULT_PASSES, convolution)
        torch.manual_seed(0)
        (found,) = module(*(slot.fetch() for slot in captured.slots), x)
        torch.manual_seed(0)
        expected = model(x)
        assert_close(found, expected)
        leaves = list(model.parameters())
        pairs = zip(
            torch.autograd.grad(found.square().sum(), leaves, allow_unused=True),
            torch.autograd.grad(expected.square().sum(), leaves, allow_unused=True),
            strict=True,
        )
        assert_gradients_close(list(pairs))


@pytest.mark.parametrize("passes", [*SINGLES, *PREFIXES], ids=lambda passes: "+".join(p.name for p in passes) or "none")
def test_idempotent_and_lint_clean(passes: Sequence[Pass]) -> None:
    model = HyperConv().double()
    captured = tzwc.capture(model, example())
    once = rewritten(captured, passes)
    code = once.code
    run_pipeline(once, passes, options=OPTIONS, static_slots=frozenset(s.name for s in captured.slots))
    assert once.code == code


def test_stages_are_snapshots() -> None:
    captured = tzwc.capture(HyperConv().double(), example())
    stages = run_pipeline(captured.module, DEFAULT_PASSES, options=OPTIONS, static_slots=frozenset())
    assert [s.name for s in stages] == ["capture", *(p.name for p in DEFAULT_PASSES)]
    assert all(s.graph is not captured.module.graph for s in stages)


def test_a_pass_that_breaks_the_graph_is_named() -> None:
    def run(module: fx.GraphModule, context: PassContext) -> None:
        del context
        output = next(n for n in module.graph.nodes if n.op == "output")
        first = next(iter(module.graph.nodes))
        output.append(module.graph.node_copy(first))

    captured = tzwc.capture(HyperConv().double(), example())
    with pytest.raises(tzwc.PassError, match="'breaks'"):
        run_pipeline(captured.module, [Pass("breaks", "", run)], options=OPTIONS, static_slots=frozenset())


def test_a_pass_given_twice_is_refused() -> None:
    captured = tzwc.capture(HyperConv().double(), example())
    with pytest.raises(tzwc.InvalidArgumentError, match="twice"):
        run_pipeline(captured.module, [DEFAULT_PASSES[0]] * 2, options=OPTIONS, static_slots=frozenset())
