"""Every algorithm computes the same numbers, in every direction and mode, and says clearly what it cannot do."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.convolution_problems import loop, numbers, operands, pair, problems, reference, same
from tests.support.examples import examples
from tzwc.errors import InvalidArgumentError
from tzwc.ops.conv import (
    Algorithm,
    Problem,
    all_algorithms,
    compute,
    find_algorithm,
    legal_algorithms,
    register_algorithm,
)
from tzwc.ops.conv.error_bounds import error_bound
from tzwc.ops.conv.gradients_as_convolutions import forward_form, forward_operands, forward_result
from tzwc.ops.conv.padding import pad
from tzwc.ops.conv.problem import DIRECTIONS


def tolerance(problem, name, a, b):
    """What the algorithm and the direct reference may each be away from the truth."""
    return error_bound(problem, name, a, b) + error_bound(problem, "native", a, b)


def check(problem, name, a, b, expected):
    found = compute(problem, name, a, b)
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype
    difference = (found - expected).abs().double()
    assert (difference <= tolerance(problem, name, a, b)).all(), (name, problem, difference.max())


@settings(max_examples=examples(15))
@given(problems())
def test_the_reference_is_the_formula(problem):
    if problem.batch * problem.out_channels * problem.fan_in * problem.flops < 2e4:
        x, kernel, _ = operands(problem)
        torch.testing.assert_close(reference(problem, x, kernel), loop(problem, x, kernel), rtol=0, atol=1e-12)


@settings(max_examples=examples(40))
@given(problems(), st.integers(0, 2**31), st.sampled_from(["cpu", "cuda"]))
def test_all_algorithms_agree_in_all_directions(problem, seed, device):
    problem = problem.with_(device=device)  # which some take another form for; the operands are on the CPU
    x, kernel, gradient = operands(problem, seed)
    leaves = (x.clone().requires_grad_(), kernel.clone().requires_grad_())
    y = reference(problem, *leaves)
    of_x, of_kernel = torch.autograd.grad(y, leaves, gradient)
    results = {"forward": y.detach(), "input_gradient": of_x, "weight_gradient": of_kernel}
    for direction in DIRECTIONS:
        directed = problem.with_(direction=direction)
        legal, declined = legal_algorithms(directed)
        assert legal.keys() | declined.keys() == all_algorithms().keys()
        for name, algorithm in legal.items():
            check(directed, name, *pair(direction, x, kernel, gradient), results[direction])
            assert all(amount >= 0 for amount in algorithm.work(directed).values())


CASES = [
    same(2, 3, 40, 5),
    same(2, 3, 40, 9, per_sample=True),
    same(1, 2, 60, 3, padding=((2, 0),)),
    same(2, 3, 40, 1),
    same(2, 4, 24, 4, groups=2, out_channels=6),
    Problem(2, 3, 3, 3, (7, 8), (3, 4), ((1, 1), (1, 2)), dtype=torch.float64),
    same(2, 3, 40, 8, per_sample=True, device="cuda"),
]


def everything():
    for problem in CASES:
        for direction in DIRECTIONS:
            directed = problem.with_(direction=direction)
            for name in legal_algorithms(directed)[0]:
                yield pytest.param(directed, name, id=f"{name}-{direction}-{CASES.index(problem)}")


EVERYTHING = list(everything())


def test_every_algorithm_is_among_the_cases():
    assert {case.values[1] for case in EVERYTHING} == set(all_algorithms())


@pytest.mark.parametrize(("problem", "name"), EVERYTHING)
def test_linear_in_each_operand(problem, name):
    a, b = pair(problem.direction, *operands(problem))
    c, d = pair(problem.direction, *operands(problem, 7))
    for mixed, parts in (((2 * a - 3 * c, b), ((a, b), (c, b))), ((a, 2 * b - 3 * d), ((a, b), (a, d)))):
        expected = 2 * compute(problem, name, *parts[0]) - 3 * compute(problem, name, *parts[1])
        allowed = 4 * sum(error_bound(problem, name, *part) for part in (mixed, *parts))
        assert ((compute(problem, name, *mixed) - expected).abs() <= allowed).all()


@pytest.mark.parametrize("name", [n for n in all_algorithms() if not n.startswith("swapped")])
def test_a_shifted_input_gives_a_shifted_result(name):
    taps = 1 if name == "matmul" else 5
    for problem in (same(2, 3, 36, taps, padding_mode="circular"), same(1, 2, 36, 4, padding_mode="circular")):
        if find_algorithm(name).objection(problem) is None:
            x, kernel, _ = operands(problem)
            found = compute(problem, name, x.roll(5, -1), kernel)
            expected = compute(problem, name, x, kernel).roll(5, -1)
            assert ((found - expected).abs() <= 2 * error_bound(problem, name, x, kernel).max()).all()


@settings(max_examples=examples(15))
@given(problems())
def test_gradients_are_adjoints(problem):
    x, kernel, gradient = operands(problem)
    y = compute(problem, "native", x, kernel)
    value = (y * gradient).sum()
    # An inner product passes the errors of its factor on; its own rounding, of the same size, is what the 2 is for.
    scale = 2 * (error_bound(problem, "native", x, kernel) * gradient.abs()).sum()
    for direction, other in (("input_gradient", x), ("weight_gradient", kernel)):
        directed = problem.with_(direction=direction)
        a, b = pair(direction, x, kernel, gradient)
        for name in legal_algorithms(directed)[0]:
            allowed = scale + 2 * (error_bound(directed, name, a, b) * other.abs()).sum()
            assert ((compute(directed, name, a, b) * other).sum() - value).abs() <= allowed


@pytest.mark.parametrize(("problem", "name"), EVERYTHING)
def test_layouts_and_an_empty_batch(problem, name):
    a, b = pair(problem.direction, *operands(problem))
    expected = compute(problem, name, a, b)
    strided = [torch.stack([t, t], -1)[..., 0] for t in (a, b)]
    inside_out = [t.transpose(1, -1).contiguous().transpose(1, -1) for t in (a, b)]
    for other in (strided, inside_out):
        check(problem, name, *other, expected)
    if not (problem.per_sample and problem.direction == "forward"):
        batch = [t[:0] if t.shape[0] == problem.batch and axis != 1 else t for axis, t in enumerate((a, b))]
        if problem.direction == "weight_gradient" or problem.per_sample:
            batch = [a[:0], b[:0]]
        found = compute(problem.with_(batch=0), name, *batch)
        lead = expected.shape if problem.direction == "weight_gradient" and not problem.per_sample else ()
        assert found.shape == (lead or (0, *expected.shape[1:]))
        assert not found.any()


@pytest.mark.parametrize(("problem", "name"), EVERYTHING)
def test_the_batch_is_that_of_the_tensors(problem, name):
    a, b = pair(problem.direction, *operands(problem))
    torch.testing.assert_close(compute(problem.with_(batch=5), name, a, b), compute(problem, name, a, b))


MISSES = [
    ("prepadded", same(1, 2, 9, 1), "nothing to pad"),
    ("prepadded", same(1, 2, 9, 4), "not symmetric zeros"),
    ("prepadded", same(1, 2, 9, 3, padding_mode="circular"), "circular"),
    ("swapped", same(1, 2, 9, 3), "weight gradients"),
    ("matmul", same(1, 2, 9, 2), "more than one tap"),
    ("shifts", same(1, 2, 9, 3, groups=1), "channels are mixed"),
    ("shifts", same(1, 2, 900, 200), "more than 128 taps"),
    ("overlap_save", same(1, 2, 9, 9), "one block"),
    ("overlap_save", Problem(1, 1, 1, 1, (99, 99), (3, 3), ((1, 1),) * 2), "2 spatial axes"),
    ("overlap_save", same(1, 2, 900, 3, per_sample=True, direction="weight_gradient"), "nothing is summed"),
    ("toeplitz", same(1, 2, 9, 3, direction="weight_gradient"), "taps are what is wanted"),
    ("toeplitz", same(1, 64, 65536, 3), "entries"),
    ("unfold", same(64, 64, 65536, 63), "windows"),
    *((name, same(1, 2, 9, 3, dtype=torch.complex64), "complex64") for name in all_algorithms() if name != "matmul"),
    ("native", same(1, 2, 9, 3, dtype=torch.int32), "int32"),
]


@pytest.mark.parametrize(("name", "problem", "reason"), MISSES)
def test_near_misses_have_a_reason(name, problem, reason):
    legal, declined = legal_algorithms(problem)
    assert name not in legal
    assert reason in declined[name]


@pytest.mark.parametrize(
    ("problem", "padded"),
    [
        (same(2, 3, 40, 8), True),
        (same(2, 3, 40, 8, device="cuda"), False),
        (same(2, 3, 40, 8, device="cuda", flip=True, dilation=(2,), padding=((7, 8),)), False),
        (same(2, 3, 40, 8, device="cuda", padding=((6, 2),)), False),
        (same(2, 3, 40, 8, device="cuda", padding=((7, 0),)), True),  # 7 surplus outputs to 40
        (same(2, 3, 40, 8, device="cuda", stride=(2,)), True),
        (same(2, 3, 40, 8, device="cuda", padding=((-1, 2),)), True),
        (same(2, 3, 40, 8, device="cuda", padding_mode="circular"), True),
        (Problem(2, 3, 3, 3, (17, 16), (3, 4), ((1, 1), (1, 2)), stride=(2, 1), device="cuda"), False),
        (Problem(2, 3, 3, 3, (17, 16), (3, 4), ((1, 1), (1, 2)), stride=(1, 2), device="cuda"), True),
    ],
)
def test_on_a_gpu_a_few_outputs_too_many_are_cheaper_than_a_padded_copy(problem, padded, monkeypatch):
    copies = []
    monkeypatch.setattr(
        "tzwc.ops.conv.algorithms.aten.pad", lambda problem, x: (copies.append(problem), pad(problem, x))[1]
    )
    x, kernel, _ = operands(problem.with_(dtype=torch.float64))
    expected = reference(problem, x, kernel)
    check(problem.with_(dtype=torch.float64), "native", x, kernel, expected)
    assert bool(copies) == padded
    assert compute(problem, "native", x, kernel).is_contiguous()
    assert ("prepadded" in legal_algorithms(problem)[0]) != padded


def test_exact_leaves_out_what_is_accurate_relative_to_the_peak():
    legal, declined = legal_algorithms(same(2, 3, 400, 5), exact=True)
    assert {"fft", "overlap_save", "toeplitz"} <= declined.keys()
    layouts = {"native", "prepadded", "channels_last", "channels_last_prepadded"}
    assert set(legal) == layouts | {"unfold", "shifts"}
    strided = same(2, 3, 40, 5, stride=(2,), direction="input_gradient")
    # The gradient spread out by zeros would give NaN where an infinite tap meets them.
    assert set(legal_algorithms(strided, exact=True)[0]) == layouts


@pytest.mark.parametrize(
    "name", ["native", "prepadded", "channels_last", "channels_last_prepadded", "unfold", "shifts"]
)
def test_one_nan_reaches_only_what_reads_it_by_an_exact_algorithm(name):
    problem = same(1, 2, 20, 3)
    x = numbers(1, 2, 20)
    x[0, 0, 7] = torch.nan
    found = compute(problem, name, x, numbers(2, 1, 3))
    assert found.isnan().nonzero()[:, 1:].tolist() == [[0, 6], [0, 7], [0, 8]]


def test_names_are_looked_after():
    with pytest.raises(InvalidArgumentError, match="algorithm='ftt' is unknown; choose one of native,"):
        find_algorithm("ftt")
    with pytest.raises(InvalidArgumentError, match="'fft' is registered already"):
        register_algorithm(find_algorithm("fft"))
    with pytest.raises(InvalidArgumentError, match="cannot compute this convolution: kernel="):
        compute(same(1, 1, 5, 3), "matmul", numbers(1, 1, 5), numbers(1, 1, 3))
    assert next(iter(all_algorithms())) == "native"
    assert all(isinstance(a, Algorithm) and a.summary for a in all_algorithms().values())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kernel": ()}, r"kernel=\(\) must have one to three axes"),
        ({"kernel": (3, 3, 3, 3)}, r"kernel=\(3, 3, 3, 3\) must have one to three axes"),
        ({"lengths": (9, 9)}, r"lengths=\(9, 9\) must have 1 entries, as kernel has"),
        ({"padding": ()}, r"padding=\(\) must have 1 entries"),
        ({"kernel": (0,)}, r"kernel=\(0,\) must be positive"),
        ({"stride": (0,)}, r"stride=\(0,\) must be positive"),
        ({"dilation": (-1,)}, r"dilation=\(-1,\) must be positive"),
        ({"groups": 0}, "groups=0 must divide in_channels=4 and out_channels=4"),
        ({"groups": 3}, "groups=3 must divide in_channels=4"),
        ({"out_channels": 6}, "groups=4 must divide in_channels=4 and out_channels=6"),
        ({"out_channels": 8, "per_sample": True}, "per_sample=True needs groups and out_channels equal"),
        ({"padding_mode": "reflect"}, "padding_mode='reflect' is not one of"),
        ({"kernel": (99,)}, r"kernel=\(99,\) with dilation=\(1,\) is longer than lengths=\(9,\)"),
    ],
)
def test_sizes_that_no_convolution_has(changes, message):
    with pytest.raises(InvalidArgumentError, match=message):
        same(2, 4, 9, 3).with_(**changes)


def test_the_forward_form_of_a_forward_problem_is_the_problem():
    problem = same(2, 4, 9, 3)
    x, kernel, gradient = operands(problem)
    assert forward_form(problem) is problem
    assert forward_operands(problem, x, kernel) == (x, kernel)
    assert forward_result(problem, gradient) is gradient
