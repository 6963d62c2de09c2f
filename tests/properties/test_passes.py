"""Every pass alone, every prefix of the pipeline, passes and the pipeline twice, and stages as JSON text."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, fx

from tests.properties.checks import eager_oracle
from tests.properties.oracle import Oracle
from tests.properties.programs import Program, programs
from tests.support.examples import examples
from tzwc.errors import CaptureError
from tzwc.inspection import Stage
from tzwc.ir.snapshot import copy_graph
from tzwc.partition.partitioner import split
from tzwc.passes import DEFAULT_PASSES
from tzwc.rewrite.pass_manager import Pass, run_pipeline
from tzwc.tracing.capture import Capture, capture_call

OPTIONS = {"cache_bytes": None, "convolution": "auto", "tune": "model", "exact": False, "grad": False}


def captured(program: Program, training: bool) -> Capture:
    """The program as a graph, without gradients; a program that cannot be one is none for these properties."""
    try:
        with torch.no_grad():
            return capture_call(program.build().train(training), program.arguments(program.tensors()))
    except CaptureError:
        assume(False)
        raise


def rewritten(graph: Capture, passes: Sequence[Pass], options: dict[str, Any] = OPTIONS) -> fx.GraphModule:
    """A copy after ``passes``."""
    module = fx.GraphModule(graph.module, copy_graph(graph.module.graph))
    run_pipeline(module, passes, options=options, static_slots=frozenset(slot.name for slot in graph.slots))
    return module


def arguments_of(graph: Capture, tensors: Sequence[Tensor]) -> dict[str, Tensor]:
    """Fresh copies by placeholder: a graph may write to its buffers."""
    slots = {slot.name: slot.fetch().detach().clone() for slot in graph.slots}
    return {**slots, **dict(zip(graph.inputs, (tensor.clone() for tensor in tensors), strict=True))}


def through_split(graph: Capture, module: fx.GraphModule, tensors: Sequence[Tensor]) -> dict[str, Any]:
    """What ``module`` gives with its kept values evaluated before."""
    parts = split(module, [slot.name for slot in graph.slots], graph.inputs)
    arguments = arguments_of(graph, tensors)
    kept = parts.program.evaluate(arguments, range(len(parts.program.values)))
    torch.manual_seed(0)
    outputs = parts.residual(*map(arguments.get, parts.slots), *kept, *map(arguments.get, graph.inputs))
    return {f"result {i}": leaf for i, leaf in enumerate(outputs)}


def check_results(oracle: Oracle, found: dict[str, Any], what: str) -> None:
    for name in oracle.exact:
        if name.startswith("result"):
            problem = oracle.unlike(name, found[name])
            assert not problem, f"{what}: {name}: {problem}"


@settings(max_examples=examples(6))
@given(programs(), st.booleans(), st.sampled_from(["auto", "fft", "toeplitz"]))
def test_every_pass_and_every_prefix_keeps_the_result(program: Program, training: bool, convolution: str) -> None:
    tensors = program.tensors()
    oracle = eager_oracle(program.build().train(training), program, tensors)
    graph = captured(program, training)
    options = {**OPTIONS, "convolution": convolution}
    for passes in [*((p,) for p in DEFAULT_PASSES), *(DEFAULT_PASSES[:n] for n in range(len(DEFAULT_PASSES) + 1))]:
        with torch.no_grad():
            found = through_split(graph, rewritten(graph, passes, options), tensors)
        check_results(oracle, found, "+".join(step.name for step in passes))


@settings(max_examples=examples(6))
@given(programs(), st.booleans())
def test_a_second_run_of_a_pass_changes_nothing(program: Program, training: bool) -> None:
    graph = captured(program, training)
    names = frozenset(slot.name for slot in graph.slots)
    for step in DEFAULT_PASSES:
        module = rewritten(graph, [step])
        code = module.code
        run_pipeline(module, [step], options=OPTIONS, static_slots=names)
        assert module.code == code, step.name


@settings(max_examples=examples(4))
@given(programs(), st.booleans())
def test_a_second_run_of_the_pipeline_changes_nothing(program: Program, training: bool) -> None:
    graph = captured(program, training)
    module = rewritten(graph, DEFAULT_PASSES)
    code = module.code
    run_pipeline(module, DEFAULT_PASSES, options=OPTIONS, static_slots=frozenset(slot.name for slot in graph.slots))
    assert module.code == code


@settings(max_examples=examples(4))
@given(programs(), st.booleans())
def test_stages_survive_json_and_run(program: Program, training: bool) -> None:
    graph = captured(program, training)
    module = copy.copy(graph.module)
    names = {slot.name: slot.path for slot in graph.slots}
    records = run_pipeline(module, DEFAULT_PASSES, options=OPTIONS, static_slots=frozenset(names), slots=names)
    for stage in map(Stage.of, records):
        back = Stage.from_json(stage.to_json())
        assert back.to_json() == stage.to_json()
        assert back.slots == stage.slots
        assert _interpreted(back.graph.owning_module, back, graph, program) == _interpreted(
            module, stage, graph, program
        )


def _interpreted(root: Any, stage: Stage, graph: Capture, program: Program) -> list[Any]:
    """Bytes of the results: NaN equals itself, and -0.0 is not 0.0."""
    arguments = arguments_of(graph, program.tensors())
    torch.manual_seed(0)
    with torch.no_grad():
        results = fx.Interpreter(fx.GraphModule(root, stage.graph)).run(*arguments.values())
    return [r.numpy().tobytes() if isinstance(r, Tensor) else r for r in results]
