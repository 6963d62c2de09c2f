"""One compiled module, called in every way: modes, batches, precisions, seeds, transforms, copies."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import tzwc
from tests.properties.checks import compiled, derivatives, eager_oracle, observe, state_of
from tests.properties.oracle import Oracle
from tests.properties.programs import Program, programs
from tests.support.examples import examples

_MODES: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "gradients": torch.enable_grad,
}
_BATCHES = (3, 3, 5, 2, 1, 4)


@settings(max_examples=examples(8))
@given(
    programs(),
    st.lists(
        st.tuples(st.sampled_from(sorted(_MODES)), st.sampled_from(_BATCHES), st.booleans(), st.booleans()), max_size=5
    ),
    st.integers(1, 2),
)
def test_any_sequence_of_calls(program: Program, calls: list[tuple[str, int, bool, bool]], static_sizes: int) -> None:
    """State moves on from call to call, in both, and the graphs for other batches and modes are right.

    Parameters may change in between, as in a step of training.
    """
    model = program.build()
    fast = compiled(model, static_sizes=static_sizes)
    for seed, (mode, batch, training, step) in enumerate([("no_grad", 3, False, False), *calls]):
        tensors = program.tensors(batch, seed=seed)
        for module in (model, fast):
            module.train(training)
            if step:
                with torch.no_grad():
                    for parameter in module.parameters():
                        parameter.add_(0.1 * parameter.cos())
        oracle = eager_oracle(model, program, tensors, int(mode == "gradients"), seed=seed)
        with _MODES[mode]():
            if mode == "gradients":
                found = derivatives(fast, fast, program, tensors, 1, seed=seed)
                derivatives(model, model, program, tensors, 1, seed=seed)
            else:
                found = observe(fast, program, tensors, seed=seed) | state_of(fast)
                observe(model, program, tensors, seed=seed)
        oracle.check(found)


@settings(max_examples=examples(4))
@given(programs(), st.booleans())
def test_compiling_twice_and_compiling_what_holds_a_compiled_module(program: Program, training: bool) -> None:
    model = program.build().train(training)
    tensors = program.tensors()
    oracle = eager_oracle(model, program, tensors, 1)
    fast = compiled(model)
    again = tzwc.compile(fast, backend="eager", verify=False)
    assert again is fast or again.original is fast.original
    oracle.check(derivatives(again, again, program, tensors, 1))

    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = compiled(model)

        def forward(self, *args: Any) -> Any:
            return self.inner(*args)

    outer = Outer().train(training)
    whole = tzwc.compile(outer, backend="eager", verify=False)
    oracle.check(derivatives(whole, outer.inner, program, tensors, 1))


@settings(max_examples=examples(6))
@given(programs(), st.integers(0, 3))
def test_one_seed_gives_one_result(program: Program, seed: int) -> None:
    """The same numbers are drawn as in eager, and as many: the generator is where eager leaves it."""
    model = program.build().train()
    tensors = program.tensors()
    eager_oracle(model, program, tensors)
    fast = compiled(model)
    drawn = []
    for call in (fast, fast, model):
        saved = copy.deepcopy(model.state_dict())
        fast.load_state_dict(saved)
        with torch.no_grad():
            results = observe(call, program, tensors, seed=seed)
        drawn.append(([r.tolist() for r in results.values() if isinstance(r, Tensor)], torch.rand(()).item()))
        model.load_state_dict(saved)
    assert repr(drawn[0]) == repr(drawn[1])
    assert drawn[0][1] == drawn[2][1]


@settings(max_examples=examples(5))
@given(programs(random=False), st.booleans())
def test_autocast(program: Program, training: bool) -> None:
    """bfloat16 where eager has it; the bound is that of float32 with a unit roundoff of bfloat16."""
    model = program.build(torch.float32).train(training)
    tensors = program.tensors(dtype=torch.float32)
    exact = [tensor.double() for tensor in tensors]
    oracle = eager_oracle(copy.deepcopy(model).double(), program, exact, epsilon=torch.finfo(torch.bfloat16).eps)
    fast = compiled(model)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        found, expected = observe(fast, program, tensors), observe(model, program, tensors)
    for name, value in expected.items():
        if isinstance(value, Tensor):
            assert found[name].dtype == value.dtype
            # Where eager is outside, it has gone through a discontinuity: a maximum, a step.
            problem = "" if oracle.unlike(name, value) else oracle.unlike(name, found[name])
            assert not problem, f"{name}: {problem}"


@settings(max_examples=examples(5))
@given(programs(random=False, writes=False), st.sampled_from(["vmap", "jvp", "functional_call", "grad"]))
def test_transforms(program: Program, kind: str) -> None:
    model = program.build()
    fast = compiled(model)
    tensors = program.tensors()
    with torch.no_grad():
        observe(fast, program, tensors)  # compiled before it is transformed

    def transformed(call: nn.Module) -> dict[str, Any]:
        def flat(*given_: Tensor) -> list[Tensor]:
            return [leaf for leaf in observe(call, program, given_).values() if isinstance(leaf, Tensor)]

        if kind == "vmap":
            results = torch.vmap(flat)(*(torch.stack([t, 2 * t]) for t in tensors))
        elif kind == "jvp":
            pairs = torch.func.jvp(flat, tuple(tensors), tuple(t.cos() for t in tensors))
            results = [leaf for part in pairs for leaf in part]
        elif kind == "grad":
            results = torch.func.jacrev(flat, tuple(range(len(tensors))))(*tensors)
            results = [leaf for part in results for leaf in part]
        else:
            state = {name: 1.5 * value for name, value in call.named_parameters()}
            found = observe(lambda *args: torch.func.functional_call(call, state, args), program, tensors)
            results = [leaf for leaf in found.values() if isinstance(leaf, Tensor)]
        return {f"result {i}": leaf.detach() for i, leaf in enumerate(results)}

    try:
        oracle = Oracle(lambda: transformed(copy.deepcopy(model)))
    except (RuntimeError, ValueError):
        assume(False)  # eager cannot do it either
        raise
    oracle.check(transformed(fast))


@settings(max_examples=examples(4))
@given(programs(), st.booleans(), st.booleans())
def test_copies_and_round_trips_of_state(program: Program, training: bool, called: bool) -> None:
    """Copies are right and independent of what they were copied from."""
    model = program.build().train(training)
    tensors = program.tensors()
    fast = compiled(model)
    if called:
        with torch.no_grad():
            eager_oracle(model, program, tensors)
            observe(fast, program, tensors)
            observe(model, program, tensors)
    duplicate = copy.deepcopy(fast)
    loaded = compiled(program.build(seed=5).train(training))
    file = io.BytesIO()
    torch.save(fast.state_dict(), file)
    file.seek(0)
    loaded.load_state_dict(torch.load(file, weights_only=True))
    pickled = compiled(program.build(seed=6).train(training))
    pickled.load_state_dict(pickle.loads(pickle.dumps(fast.state_dict())))
    oracle = eager_oracle(model, program, tensors, 1)
    with torch.no_grad():
        for tensor in (*fast.parameters(), *fast.buffers()):
            tensor.zero_()
    for one in (duplicate, loaded, pickled):
        assert one.training == training
        oracle.check(derivatives(one, one, program, tensors, 1))
