"""Maps on several grids become one batched product where starting a kernel is dear; and what holds for every rule."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.merge_testing import PASSES, ROUNDINGS, B, C, N, captured, double, sum_of_two, three, used, weights
from tests.support.pass_testing import assert_unchanged, capture_function, code, remarks
from tzwc.passes import by_name
from tzwc.rewrite.pass_manager import PassContext

pytestmark = pytest.mark.usefixtures("as_on_a_gpu")


def _generators(w1, b1, w2, b2, w3, b3, v1, v2, v3, x):
    """Three small networks in a row of two maps each, on grids of 1, 4 and 9 points."""
    results = []
    for k, (w, b, v) in enumerate(((w1, b1, v1), (w2, b2, v2), (w3, b3, v3)), start=1):
        h = F.conv2d(F.adaptive_avg_pool2d(x.mean(0, keepdim=True), k), w, b).relu()
        results.append(F.conv2d(h, v).tanh().sum() * x)
    return sum(results)


def _generator_weights():
    return [*weights((C, 5), (C, 5), (C, 5)), *weights((5, 2), (5, 2), (5, 2), bias=False)]


def test_small_networks_of_several_grids_become_batched_products():
    program = capture_function(_generators, _generator_weights(), double(B, C, N, N))
    stages = program.run(*PASSES)
    assert program.counts()["aten.conv2d.default"] == 0
    assert program.counts()["aten.matmul.default"] == 2
    assert [r.numbers["maps"] for r in remarks(stages, "applied", "batch")] == [3, 3]
    assert_unchanged(program, factor=ROUNDINGS)
    assert_unchanged(program, double(B + 2, C, N, N), factor=ROUNDINGS)


def test_what_is_not_finite_stays_where_it_is():
    def function(w1, w2, w3, x):
        grids = (x, x[..., :2, :2] * 2, x[..., :1] + 1)
        return used(*(F.conv2d(grid, w) for grid, w in zip(grids, (w1, w2, w3), strict=True)))

    x = double(1, C, N, N)
    x[0, 0, N - 1, N - 1] = torch.inf  # in the first grid only
    program = captured(function, weights((C, 5), (C, 5), (C, 5), bias=False), x)
    program.run(*PASSES)
    assert program.counts()["aten.matmul.default"] == 1
    for found, expected in zip(program.evaluate(x), program.model(x), strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=64 * torch.finfo(torch.float64).eps, equal_nan=True)


BATCH_MISSES = {
    "two": (
        lambda w1, b1, w2, b2, w3, b3, x: (
            *used(F.conv2d(x.relu(), w1, b1), F.conv2d(x[..., 1:], w2, b2)),
            w3.sum() * b3,
        ),
        "costs",
    ),
    "large": (
        lambda w1, b1, w2, b2, w3, b3, x: used(
            *(
                F.conv2d(F.interpolate(x, (512, 512 - i)), w, b)
                for i, (w, b) in enumerate(((w1, b1), (w2, b2), (w3, b3)))
            )
        ),
        "costs",
    ),
    "other channels": (
        lambda w1, b1, w2, b2, w3, b3, x: used(
            F.conv2d(x, w1, b1), F.conv2d(x[:, :2] * 2, w2[:, :2], b2), F.conv2d(x * 3, w3[:2], b3[:2])
        ),
        None,
    ),
    "in a row": (
        lambda w1, b1, w2, b2, w3, b3, x: torch.tanh(
            F.conv2d(F.conv2d(F.conv2d(x, w1, b1).relu(), w2, b2).relu(), w3, b3)
        ),
        None,
    ),
    "samples": (
        lambda w1, b1, w2, b2, w3, b3, x: used(
            *(F.conv2d(x.expand(2, -1, -1, -1) * i, w, b) for i, (w, b) in enumerate(((w1, b1), (w2, b2), (w3, b3))))
        ),
        None,
    ),
    "returned": (
        lambda w1, b1, w2, b2, w3, b3, x: tuple(
            F.conv2d(x * i, w, b) for i, (w, b) in enumerate(((w1, b1), (w2, b2), (w3, b3)))
        ),
        "may be returned",
    ),
}


@pytest.mark.parametrize("case", BATCH_MISSES)
def test_near_misses_of_a_batch(case):
    function, reason = BATCH_MISSES[case]
    program = captured(function, weights((C, C), (C, C), (C, C)), double(1, C, N, N))
    stages = program.run(*PASSES)
    assert not remarks(stages, "applied", "batch")
    said = [r.reason for r in remarks(stages, "declined", "batch")]
    assert any(reason in s for s in said) if reason else not said, said
    assert_unchanged(program, factor=ROUNDINGS)


# --- all rules --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", ["shared", "sum", "batch"])
def test_memory_that_is_written_to_is_left_alone(rule):
    def function(w1, b1, w2, b2, w3, b3, x):
        if rule == "sum":
            y = F.conv2d(x.tanh(), w1, b1)
            y[0].zero_()
            return y + F.conv2d(x * 2, w2, b2)
        inputs = [x * (i if rule == "batch" else 1) for i in range(3)]
        first, *others = (F.conv2d(v, w, b) for v, (w, b) in zip(inputs, ((w1, b1), (w2, b2), (w3, b3)), strict=True))
        first[0].zero_()
        return used(first, *others)

    program = captured(function, weights((C, 5), (C, 5), (C, 5)), double(1, C, N, N))
    stages = program.run(*PASSES)
    assert any("writes to" in r.reason for r in remarks(stages, "declined", rule)) or rule == "sum"
    assert not remarks(stages, "applied", "sum")
    assert_unchanged(program, factor=ROUNDINGS)


def test_each_rewrite_can_be_held_back():
    program = capture_function(_generators, _generator_weights(), double(B, C, N, N))
    asked = []
    context = PassContext("m", {}, program.slot_names, chooser=lambda r: asked.append(str(r)) or len(asked) > 1)
    by_name("merge_parallel").run(program.module, context)
    assert asked == ["batch@conv2d", "batch@conv2d_1"]
    assert program.counts()["aten.matmul.default"] == 1
    assert_unchanged(program, factor=ROUNDINGS)


TWICE = {
    "batch": (_generators, _generator_weights()),
    "shared": (three, weights((C, 5), (C, 2), (C, 3))),
    "sum": (sum_of_two, weights((C, 5), (2, 5))),
}


@pytest.mark.parametrize("rule", TWICE)
def test_running_twice_changes_nothing_more(rule):
    program = capture_function(*TWICE[rule], double(B, C, N, N))
    program.run(*PASSES)
    before = code(program.module)
    program.run(*PASSES)
    assert code(program.module) == before


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    layers=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(1, 3)), min_size=2, max_size=6),
    grid=st.lists(st.integers(1, 6), min_size=1, max_size=2),
    batch=st.integers(1, 2),
    varying=st.booleans(),
    seed=st.integers(0, 2**16),
)
def test_random_networks_keep_results_and_gradients(layers, grid, batch, varying, seed):
    """Maps from earlier values chosen at random, each alone, added to a second one, or between functions."""
    torch.manual_seed(seed)
    axes = len(grid)
    convolve = (F.conv1d, F.conv2d)[axes - 1]
    parameters = weights(*[(3, 3)] * (2 * len(layers)), axes=axes)

    def function(*arguments):
        *weights, x = arguments
        values = [x]
        for i, (first, second, kind) in enumerate(layers):
            a, b = values[first % len(values)], values[second % len(values)]
            y = convolve(a, *weights[4 * i : 4 * i + 2])
            if kind == 2:
                y = y + convolve(b * 2, *weights[4 * i + 2 : 4 * i + 4])
            if kind == 3:
                y = torch.tanh(y) * torch.sigmoid(convolve(b, *weights[4 * i + 2 : 4 * i + 4]))
            values.append(y)
        return tuple(value * 2 for value in values)

    program = captured(function, parameters, double(batch, 3, *grid))
    program.slot_names = frozenset() if varying else program.slot_names
    program.run(*PASSES, grad=varying)
    # Six layers, each a sum of at most six products in another order; the growth of a layer is that of its result.
    assert_unchanged(program, factor=512.0)
