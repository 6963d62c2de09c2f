"""Maps that run next to each other become one where starting a kernel is dear, and nothing else does."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pass_testing import Program, assert_unchanged, capture, capture_function, code, remarks

import tzwc.cost
from tzwc.passes import by_name, parallel_maps
from tzwc.pipeline import PassContext

PASSES = ("normalize", "cse", "merge_parallel")
B, C, N = 3, 4, 6


# The tables below are drawn when the file is read, in front of any fixture.
_GENERATOR = torch.Generator().manual_seed(0)

# A bias' gradient sums up to (B + 2) · N² = 180 terms in another order, each off by a rounding: by 180 eps of their
# size at most, which is that of the largest gradient or, where terms cancel, somewhat more.
ROUNDINGS = 512.0


def _double(*shape):
    return torch.randn(*shape, dtype=torch.float64, generator=_GENERATOR)


@pytest.fixture(autouse=True)
def _as_on_a_gpu(monkeypatch):
    """Let the pass see the CPU as a device where starting a kernel takes long, which is where it merges."""
    monkeypatch.setattr(parallel_maps, "DEVICES", ("cpu",))
    monkeypatch.setitem(tzwc.cost.MACHINES, "cpu", tzwc.cost.MACHINES["cuda"])
    torch.manual_seed(0)


def _captured(function, parameters, x, dynamic=False):
    """The program for the sizes of ``x`` alone."""
    return capture(Program(function, parameters), x, dynamic=dynamic)


def _weights(*channels, bias=True, axes=2):
    """Weights `(O, C, 1, …)`, and biases unless there are none, for each pair of channels."""
    found = []
    for a, b in channels:
        found += [_double(b, a, *(1,) * axes)] + ([_double(b)] if bias else [])
    return found


def _used(*results):
    """Results, each read by something, none returned as it is."""
    return tuple(torch.tanh(result) for result in results)


def _three(w1, b1, w2, b2, w3, b3, x):
    return _used(F.conv2d(x, w1, b1), F.conv2d(x, w2, b2), F.conv2d(x, w3, b3))


def _without_bias(w1, w2, x):
    return _used(F.conv2d(x, w1), F.conv2d(x, w2))


def _one_bias(w1, b1, w2, b2, x):
    return (*_used(F.conv2d(x, w1, b1), F.conv2d(x, w2)), b2 * 2)


def _flat(w1, b1, w2, b2, x):
    return _used(F.conv1d(x.flatten(2), w1, b1), F.conv1d(x.flatten(2), w2, b2))


def _linear(w1, b1, w2, b2, x):
    rows = x.movedim(1, -1)
    return _used(F.linear(rows, w1, b1), F.linear(rows, w2, b2))


def _one_after_the_other(w1, b1, w2, b2, x):
    """The second map comes after what reads the first one's result."""
    y = F.conv2d(x, w1, b1).relu().sum(1, keepdim=True)
    return y, torch.tanh(F.conv2d(x, w2, b2)) * y


SHARED = {
    "three": (_three, _weights((C, 5), (C, 2), (C, 3))),
    "no bias": (_without_bias, _weights((C, 5), (C, 2), bias=False)),
    "one bias": (_one_bias, _weights((C, 5), (C, 2))),
    "1-D": (_flat, _weights((C, 5), (C, 2), axes=1)),
    "linear": (_linear, _weights((C, 5), (C, 2), axes=0)),
    "uses between": (_one_after_the_other, _weights((C, 5), (C, 2))),
}


def _maps(program):
    return sum(n for name, n in program.counts().items() if "conv" in name or "linear" in name or "matmul" in name)


@pytest.mark.parametrize("case", SHARED)
def test_maps_of_one_tensor_become_one(case):
    function, parameters = SHARED[case]
    program = capture_function(function, parameters, _double(B, C, N, N))
    stages = program.run(*PASSES)
    assert _maps(program) == 1
    assert len(remarks(stages, "applied", "shared")) == 1
    assert_unchanged(program, factor=ROUNDINGS)
    assert_unchanged(program, _double(B + 2, C, N, N), factor=ROUNDINGS)


def test_what_becomes_of_one_map_may_be_merged_again():
    def function(w1, b1, w2, b2, w3, b3, x):
        y = F.conv2d(x, w1, b1)
        return _used(y * F.conv2d(x, w1 * 2, b1), F.conv2d(y, w2, b2), F.conv2d(y, w3, b3))

    program = capture_function(function, _weights((C, 5), (5, 2), (5, 3)), _double(B, C, N, N))
    program.run(*PASSES)
    assert _maps(program) == 2
    assert_unchanged(program, factor=ROUNDINGS)


SHARED_MISSES = {
    "other tensors": (
        lambda w1, b1, w2, b2, x: _used(F.conv2d(x, w1, b1), F.conv2d(x * 2, w2, b2)),
        _weights((C, 5), (C, 2)),
        None,
    ),
    "three taps": (
        lambda w1, b1, w2, b2, x: _used(F.conv2d(x, w1, b1), F.conv2d(x, w2.expand(-1, -1, 3, 3), b2)),
        _weights((C, 5), (C, 2)),
        None,
    ),
    "stride": (
        lambda w1, b1, w2, b2, x: _used(F.conv2d(x, w1, b1), F.conv2d(x, w2, b2, stride=2)),
        _weights((C, 5), (C, 2)),
        None,
    ),
    "groups": (
        lambda w1, b1, w2, b2, x: _used(F.conv2d(x, w1, b1), F.conv2d(x, w2[:, :1], b2, groups=C)),
        _weights((C, 5), (C, C)),
        None,
    ),
    "convolution and linear": (
        lambda w1, b1, w2, b2, x: _used(F.conv2d(x, w1, b1), F.linear(x, w2[..., 0, 0], b2)),
        _weights((C, 5), (N, 2)),
        None,
    ),
    "returned": (
        lambda w1, b1, w2, b2, x: (F.conv2d(x, w1, b1), torch.tanh(F.conv2d(x, w2, b2))),
        _weights((C, 5), (C, 2)),
        "may be returned",
    ),
    "a view returned": (
        lambda w1, b1, w2, b2, x: (F.conv2d(x, w1, b1)[0], torch.tanh(F.conv2d(x, w2, b2))),
        _weights((C, 5), (C, 2)),
        "may be returned",
    ),
    "strides": (
        lambda w1, b1, w2, b2, x: _used(
            F.conv2d(x, w1, b1).as_strided((2, 2), (1, 2)), F.conv2d(x, w2, b2).as_strided((2, 2), (1, 2))
        ),
        _weights((C, 5), (C, 2)),
        "may count on its layout",
    ),
    "sine": (
        lambda w1, b1, w2, b2, x: (torch.sin(3 * F.conv2d(x, w1, b1)), torch.tanh(F.conv2d(x, w2, b2))),
        _weights((C, 5), (C, 2)),
        "argument of a sine",
    ),
    "weight of the other result": (
        lambda w1, b1, w2, b2, x: _used(y := F.conv2d(x, w1, b1), F.conv2d(x, w2 * y.tanh().mean(), b2)),
        _weights((C, 5), (C, 2)),
        None,
    ),
    "weights of every call": (
        lambda w1, b1, w2, b2, x: _used(F.conv2d(x, w1 * x.mean(), b1), F.conv2d(x, w2 * x.std(), b2)),
        _weights((C, 5), (C, 2)),
        "more than it saves",
    ),
    "static": (
        lambda w1, b1, w2, b2, x: _used(
            F.conv2d(b1.reshape(1, -1, 1, 1), w1, b1) + x.mean(), F.conv2d(b1.reshape(1, -1, 1, 1), w2, b2)
        ),
        _weights((C, C), (C, 2)),
        None,
    ),
}


@pytest.mark.parametrize("case", SHARED_MISSES)
def test_near_misses_of_maps_of_one_tensor(case):
    function, parameters, reason = SHARED_MISSES[case]
    program = _captured(function, parameters, _double(B, C, N, N), case != "strides")
    stages = program.run(*PASSES)
    assert not remarks(stages, "applied")[len(remarks(stages[:-1], "applied")) :]
    said = [r.reason for r in remarks(stages, "declined", "shared")]
    assert any(reason in s for s in said) if reason else not said, said
    assert_unchanged(program, factor=ROUNDINGS)


def test_on_a_device_where_calls_start_at_no_cost_nothing_is_merged(monkeypatch):
    monkeypatch.setattr(parallel_maps, "DEVICES", ("cuda",))
    function, parameters = SHARED["three"]
    program = capture_function(function, parameters, _double(B, C, N, N))
    stages = program.run(*PASSES)
    assert program.counts()["aten.conv2d.default"] == 3
    assert "on cpu" in remarks(stages, "declined", "shared")[0].reason


def test_weights_of_every_call_are_merged_where_that_saves_more_than_it_costs():
    program = capture_function(_without_bias, _weights((C, 5), (C, 2), bias=False), _double(B, C, N, N))
    program.slot_names = frozenset()  # as in training: no parameter is constant
    program.run(*PASSES, grad=True)
    assert _maps(program) == 1  # x is larger than the weights
    assert_unchanged(program, factor=ROUNDINGS)


# --- a sum of two -----------------------------------------------------------------------------------------------------


def _sum(w1, b1, w2, b2, x):
    return F.conv2d(x.tanh(), w1, b1) + F.conv2d(x[:, :2] * 2, w2, b2)


SUMS = {
    "biases": (_sum, _weights((C, 5), (2, 5))),
    "no bias": (
        lambda w1, w2, x: F.conv2d(x.tanh(), w1) + F.conv2d(x[:, :2] * 2, w2),
        _weights((C, 5), (2, 5), bias=False),
    ),
    "one bias": (
        lambda w1, b1, w2, b2, x: (F.conv2d(x.tanh(), w1) + F.conv2d(x[:, :2] * 2, w2, b2)) * b1.sum(),
        _weights((C, 5), (2, 5)),
    ),
    "linear": (
        lambda w1, b1, w2, b2, x: (
            F.linear(x.movedim(1, -1) * 2, w1, b1) + F.linear(x[:, :2].movedim(1, -1) * 3, w2, b2)
        ),
        _weights((C, 5), (2, 5), axes=0),
    ),
    "three": (
        lambda w1, b1, w2, b2, w3, b3, x: _sum(w1, b1, w2, b2, x) + F.conv2d(x.exp(), w3, b3),
        _weights((C, 5), (2, 5), (C, 5)),
    ),
    "of a concatenation": (
        lambda w1, b1, w2, b2, x: F.conv2d(torch.cat([x * 2, x.exp()], 1), w1, b1) + F.conv2d(x[:, :2] * 2, w2, b2),
        _weights((2 * C, 5), (2, 5)),
    ),
}


@pytest.mark.parametrize("case", SUMS)
def test_a_sum_becomes_one_map(case):
    function, parameters = SUMS[case]
    program = capture_function(function, parameters, _double(B, C, N, N))
    stages = program.run(*PASSES)
    assert _maps(program) == 1
    assert program.counts()["aten.cat.default"] - (len(parameters) // (1 if case == "no bias" else 2) - 1) == 1
    assert remarks(stages, "applied", "sum")
    assert_unchanged(program, factor=ROUNDINGS)
    assert_unchanged(program, _double(B + 2, C, N, N), factor=ROUNDINGS)


SUM_MISSES = {
    "one tensor": (lambda w1, b1, w2, b2, x: F.conv2d(y := x.tanh(), w1, b1) + F.conv2d(y, w2, b2), None),
    "alpha": (
        lambda w1, b1, w2, b2, x: torch.add(F.conv2d(x.tanh(), w1, b1), F.conv2d(x * 2, w2, b2), alpha=2),
        None,
    ),
    "difference": (lambda w1, b1, w2, b2, x: F.conv2d(x.tanh(), w1, b1) - F.conv2d(x * 2, w2, b2), None),
    "broadcast": (
        lambda w1, b1, w2, b2, x: F.conv2d(x.tanh(), w1, b1) + F.conv2d(x[:, :, :1] * 2, w2, b2),
        None,
    ),
    "used elsewhere": (
        lambda w1, b1, w2, b2, x: (y := F.conv2d(x.tanh(), w1, b1), y + F.conv2d(x * 2, w2, b2))[1] * y.sum(),
        None,
    ),
    "other maps of one": (
        lambda w1, b1, w2, b2, x: (
            F.conv2d(y := x.tanh(), w1, b1) + F.conv2d(x * 2, w2, b2),
            F.conv2d(y, w1 * 2, b1),
        ),
        "reads the same tensor",
    ),
    "in memory": (lambda w1, b1, w2, b2, x: F.conv2d(x, w1, b1) + F.conv2d(x[..., :], w2 * 2, b2), None),
    "sine": (
        lambda w1, b1, w2, b2, x: torch.sin(F.conv2d(x.tanh(), w1, b1) + F.conv2d(x * 2, w2, b2)),
        "argument of a sine",
    ),
    "after a reduction": (
        lambda w1, b1, w2, b2, x: F.conv2d(F.instance_norm(x), w1, b1) + F.conv2d(torch.softmax(x, -1) * 2, w2, b2),
        "more than it saves",
    ),
}


@pytest.mark.parametrize("case", SUM_MISSES)
def test_near_misses_of_a_sum(case):
    function, reason = SUM_MISSES[case]
    program = capture_function(function, _weights((C, 5), (C, 5)), _double(B, C, N, N))
    stages = program.run(*PASSES)
    assert not remarks(stages, "applied", "sum")
    said = [r.reason for r in remarks(stages, "declined", "sum")]
    assert any(reason in s for s in said) if reason else not said, said
    assert_unchanged(program, factor=ROUNDINGS)


# --- a batch ----------------------------------------------------------------------------------------------------------


def _generators(w1, b1, w2, b2, w3, b3, v1, v2, v3, x):
    """Three small networks in a row of two maps each, on grids of 1, 4 and 9 points."""
    results = []
    for k, (w, b, v) in enumerate(((w1, b1, v1), (w2, b2, v2), (w3, b3, v3)), start=1):
        h = F.conv2d(F.adaptive_avg_pool2d(x.mean(0, keepdim=True), k), w, b).relu()
        results.append(F.conv2d(h, v).tanh().sum() * x)
    return sum(results)


def _generator_weights():
    return [*_weights((C, 5), (C, 5), (C, 5)), *_weights((5, 2), (5, 2), (5, 2), bias=False)]


def test_small_networks_of_several_grids_become_batched_products():
    program = capture_function(_generators, _generator_weights(), _double(B, C, N, N))
    stages = program.run(*PASSES)
    assert program.counts()["aten.conv2d.default"] == 0
    assert program.counts()["aten.matmul.default"] == 2
    assert [r.numbers["maps"] for r in remarks(stages, "applied", "batch")] == [3, 3]
    assert_unchanged(program, factor=ROUNDINGS)
    assert_unchanged(program, _double(B + 2, C, N, N), factor=ROUNDINGS)


def test_what_is_not_finite_stays_where_it_is():
    def function(w1, w2, w3, x):
        grids = (x, x[..., :2, :2] * 2, x[..., :1] + 1)
        return _used(*(F.conv2d(grid, w) for grid, w in zip(grids, (w1, w2, w3), strict=True)))

    x = _double(1, C, N, N)
    x[0, 0, N - 1, N - 1] = torch.inf  # in the first grid only
    program = _captured(function, _weights((C, 5), (C, 5), (C, 5), bias=False), x)
    program.run(*PASSES)
    assert program.counts()["aten.matmul.default"] == 1
    for found, expected in zip(program.evaluate(x), program.model(x), strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=64 * torch.finfo(torch.float64).eps, equal_nan=True)


BATCH_MISSES = {
    "two": (
        lambda w1, b1, w2, b2, w3, b3, x: (
            *_used(F.conv2d(x.relu(), w1, b1), F.conv2d(x[..., 1:], w2, b2)),
            w3.sum() * b3,
        ),
        "costs",
    ),
    "large": (
        lambda w1, b1, w2, b2, w3, b3, x: _used(
            *(
                F.conv2d(F.interpolate(x, (512, 512 - i)), w, b)
                for i, (w, b) in enumerate(((w1, b1), (w2, b2), (w3, b3)))
            )
        ),
        "costs",
    ),
    "other channels": (
        lambda w1, b1, w2, b2, w3, b3, x: _used(
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
        lambda w1, b1, w2, b2, w3, b3, x: _used(
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
    program = _captured(function, _weights((C, C), (C, C), (C, C)), _double(1, C, N, N))
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
        return _used(first, *others)

    program = _captured(function, _weights((C, 5), (C, 5), (C, 5)), _double(1, C, N, N))
    stages = program.run(*PASSES)
    assert any("writes to" in r.reason for r in remarks(stages, "declined", rule)) or rule == "sum"
    assert not remarks(stages, "applied", "sum")
    assert_unchanged(program, factor=ROUNDINGS)


def test_each_rewrite_can_be_held_back():
    program = capture_function(_generators, _generator_weights(), _double(B, C, N, N))
    asked = []
    context = PassContext("m", {}, program.slot_names, chooser=lambda r: asked.append(str(r)) or len(asked) > 1)
    by_name("merge_parallel").run(program.module, context)
    assert asked == ["batch@conv2d", "batch@conv2d_1"]
    assert program.counts()["aten.matmul.default"] == 1
    assert_unchanged(program, factor=ROUNDINGS)


@pytest.mark.parametrize("function", [_generators, _three, _sum])
def test_running_twice_changes_nothing_more(function):
    parameters = {_generators: _generator_weights(), _three: SHARED["three"][1], _sum: SUMS["biases"][1]}[function]
    program = capture_function(function, parameters, _double(B, C, N, N))
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
    parameters = _weights(*[(3, 3)] * (2 * len(layers)), axes=axes)

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

    program = _captured(function, parameters, _double(batch, 3, *grid))
    program.slot_names = frozenset() if varying else program.slot_names
    program.run(*PASSES, grad=varying)
    # Six layers, each a sum of at most six products in another order; the growth of a layer is that of its result.
    assert_unchanged(program, factor=512.0)
