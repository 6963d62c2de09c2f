"""Diffs name what came, what went and what changed."""

from __future__ import annotations

import operator

import torch
from torch import fx

from tests.support.inspection_cases import case
from tzwc.inspection import diff


def test_no_difference() -> None:
    stages = case("layers").stages
    assert diff(stages[0], stages[1]).endswith("no difference\n")


def test_replaced_nodes_with_origin_and_pass() -> None:
    stages = case("spectral").stages
    text = diff(stages[1], stages[2])
    assert text.startswith("nothing → swap_factors: ")
    assert "removed: 1 node\n" in text
    assert "added: 1 node\n" in text
    assert "    - mul = aten.mul.Tensor(fft_rfft, unsqueeze)" in text
    assert ", by swap_factors/swap" in text
    assert "tests/support/inspection_cases.py:" in text
    # The user of the replaced node shows its operand before and after.
    assert "    - fft_irfft = aten.fft_irfft.default(mul, 16)" in text
    assert "    + fft_irfft = aten.fft_irfft.default(mul_tensor, 16)" in text


def test_operator_counts_and_limit() -> None:
    before, after = fx.Graph(), fx.Graph()
    for graph, target, times in ((before, torch.ops.aten.neg.default, 9), (after, operator.neg, 2)):
        x = graph.placeholder("x")
        for _ in range(times):
            x = graph.call_function(target, (x,))
        graph.output(x)
    text = diff(before, after, limit=3)
    assert "before → after: 9 → 2 operations" in text
    flat = " ".join(text.split())
    assert "aten.neg.default 9 → 0 -9 operator.neg 0 → 2 +2" in flat
    assert "removed: 9 nodes" in text
    assert "and 6 more" in text
    assert "changed: 1 node\n" in text
