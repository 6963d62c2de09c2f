"""Every algorithm stays within its derived bound of the float64 result, in every dtype and direction."""

from __future__ import annotations

import pytest
import torch

from tests.support.convolution_problems import operands, pair, same
from tzwc.ops.conv import Problem, all_algorithms, compute, legal_algorithms
from tzwc.ops.conv.error_bounds import error_bound, summed_terms
from tzwc.ops.conv.problem import DIRECTIONS

PROBLEMS = [
    same(2, 3, 300, 31),
    same(3, 4, 500, 7, groups=2, out_channels=2),
    same(2, 3, 64, 64, per_sample=True),
    same(2, 4, 60, 1, groups=1),
    same(2, 3, 90, 8, padding_mode="circular", stride=(2,)),
    Problem(2, 4, 6, 2, (12, 14), (5, 4), ((2, 2), (2, 2)), dilation=(1, 2)),
]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("index", range(len(PROBLEMS)))
def test_within_the_bound(index, direction, dtype):
    problem = PROBLEMS[index].with_(direction=direction, dtype=dtype)
    a, b = pair(direction, *operands(problem.with_(dtype=dtype)))
    if dtype == torch.float64:  # no wider type is at hand: the reference has an error of its own
        truth, own = compute(problem, "native", a, b), error_bound(problem, "native", a, b)
    else:
        truth, own = compute(problem.with_(dtype=torch.float64), "native", a.double(), b.double()), 0.0
    for name in legal_algorithms(problem)[0]:
        found = compute(problem, name, a, b)
        assert found.dtype == dtype
        bound = error_bound(problem, name, a, b) + own
        assert ((found.double() - truth).abs() <= bound).all(), (name, ((found.double() - truth).abs() / bound).max())


@pytest.mark.parametrize("name", ["fft", "overlap_save"])
def test_the_bound_of_an_fft_is_not_slack_beyond_use(name):
    """Statistically, errors are below a rigorous bound by the square root of it or so; not by many powers of ten."""
    problem = same(4, 8, 4096, 33, dtype=torch.float32)
    x, kernel, _ = operands(problem)
    truth = compute(problem.with_(dtype=torch.float64), "native", x.double(), kernel.double())
    error = (compute(problem, name, x, kernel).double() - truth).abs().max()
    assert error < error_bound(problem, name, x, kernel).max() < 1e5 * error


def test_the_number_of_products():
    dense = Problem(5, 6, 4, 2, (20,), (7,), ((3, 3),))
    assert summed_terms(dense) == 3 * 7
    assert summed_terms(dense.with_(direction="input_gradient")) == 2 * 7
    assert summed_terms(dense.with_(direction="weight_gradient")) == 5 * 20
    assert summed_terms(same(5, 2, 20, 7, per_sample=True, direction="weight_gradient")) == 20


@pytest.mark.parametrize("name", list(all_algorithms()))
def test_narrow_types_are_rounded_once(name):
    """1 + 2^-9 is not a bfloat16: a sum that is rounded on its way loses the small terms one by one."""
    problem = same(1, 1, 2048, 1 if name == "matmul" else 64, dtype=torch.bfloat16)
    problem = problem if not name.startswith("swapped") else problem.with_(direction="weight_gradient")
    if problem not in PROBLEMS and name in legal_algorithms(problem)[0]:
        a, b = (torch.full_like(t, 2.0**-4) for t in pair(problem.direction, *operands(problem)))
        found = compute(problem, name, a, b)
        truth = compute(problem.with_(dtype=torch.float64), "native", a.double(), b.double())
        assert ((found.double() - truth).abs() <= error_bound(problem, name, a, b)).all()
