"""The least squares behind the cost model."""

from __future__ import annotations

import itertools

import pytest
import torch

from tzwc.autotune.cost_model import _non_negative


@pytest.mark.parametrize("seed", range(30))
def test_no_other_coefficients_that_are_not_negative_fit_better(seed: int) -> None:
    """Against all sets of coefficients that may be above zero, tried one by one."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.rand(9, 4, generator=generator, dtype=torch.float64)
    wanted = torch.randn(9, generator=generator, dtype=torch.float64)
    if seed % 2:  # nearly dependent columns: some leave the set after they were in it
        rows = rows + 5 * torch.rand(9, 1, generator=generator, dtype=torch.float64)
    found = _non_negative(rows, wanted)
    assert (found >= 0).all()
    least = float("inf")
    for count in range(5):
        for active in itertools.combinations(range(4), count):
            c = torch.zeros(4, dtype=torch.float64)
            c[list(active)] = torch.linalg.lstsq(rows[:, list(active)], wanted[:, None]).solution[:, 0]
            if (c >= 0).all():
                least = min(least, float((rows @ c - wanted).norm()))
    assert float((rows @ found - wanted).norm()) <= least * (1 + 1e-8)
