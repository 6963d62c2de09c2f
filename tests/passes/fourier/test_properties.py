"""Any lengths, kernels, numbers of points, slices, norms and spellings: equal values, recognised where they must be."""

from __future__ import annotations

import random

import pytest
import torch
import torch.fft as tf
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.fft_testing import PASSES, assert_close, capture_program, transforms
from tests.support.pass_testing import double, remarks
from tzwc.passes.fourier.circular import linear_part
from tzwc.passes.fourier.fourier_calls import Declined
from tzwc.passes.shared.einsum_terms import einsum_terms

SETTINGS = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def test_the_proof_by_ranges_agrees_with_the_definition_everywhere():
    draw = random.Random(0)
    found = declined = 0
    for _ in range(6000):
        points = draw.randint(2, 14)
        length, kernel = draw.randint(1, points), draw.randint(1, points)
        shift = draw.randint(-2 * points, 2 * points)
        begin = draw.randint(-points, points)
        end = begin + draw.randint(1, points)
        x = torch.tensor([draw.randint(1, 9) for _ in range(length)])
        w = torch.tensor([draw.randint(1, 9) for _ in range(kernel)])
        circular = torch.zeros(points, dtype=torch.long)
        turns = set()
        for i in range(length):
            for j in range(kernel):
                at = i - j + shift
                circular[at % points] += x[i] * w[j]
                turns |= {(at - u) // points for u in range(begin, end) if (at - u) % points == 0}
        try:
            part = linear_part(length, kernel, points, shift, begin, end)
        except Declined:
            assert len(turns) != 1
            declined += 1
            continue
        values, taps = x[slice(*part.x)], w[slice(*part.taps)]
        assert 0 <= min(part.padding) <= max(part.padding) < len(taps)
        result = F.pad(F.pad(values, part.padding).unfold(0, len(taps), 1) @ taps, part.outside)
        assert result.tolist() == [circular[u % points].item() for u in range(begin, end)]
        found += 1
    assert min(found, declined) > 1000


@st.composite
def programs(draw):
    length, kernel = draw(st.integers(1, 24)), draw(st.integers(1, 24))
    full = length + kernel - 1
    sizes = [full, full + 1, 2 * max(length, kernel), 1 << full.bit_length(), max(full - 2, 2), length, length + kernel]
    n = max(draw(st.sampled_from(sizes)), 2)
    begin = draw(st.integers(0, n - 1))
    window = draw(
        st.sampled_from([(0, length), (kernel // 2, kernel // 2 + length), (0, n), (begin, n), (-begin, None)])
    )
    norms = draw(st.sampled_from([(None,) * 3, ("ortho",) * 3, ("forward", None, "forward"), ("ortho", None, "ortho")]))
    spelling = draw(st.sampled_from(["rfft", "fft", "pad", "mixed"]))
    conjugated = draw(st.sampled_from(["", "", "x", "k", "xk"]))
    flipped = draw(st.sampled_from(["", "", "x", "k", "xk"]))
    shape = draw(st.sampled_from([(2,), (1, 2), (1,), (), (3, 2), (3, 1)]))
    front = draw(st.integers(0, max(n - length, 0)))

    def transform(signal, name, norm):
        if name in flipped:
            signal = signal.flip(-1)
        if spelling == "pad" and signal.shape[-1] <= n:
            before = min(front, n - signal.shape[-1]) if name == "x" else 0
            spectrum = tf.rfft(F.pad(signal, (before, n - signal.shape[-1] - before)), norm=norm)
        else:
            spectrum = (tf.fft if spelling in ("fft", "mixed") else tf.rfft)(signal, n=n, norm=norm)
        return spectrum.conj() if name in conjugated else spectrum

    def function(k, x):
        product = transform(x, "x", norms[0]) * transform(k, "k", norms[1])
        y = tf.ifft(product, norm=norms[2]).real if spelling == "fft" else tf.irfft(product, n=n, norm=norms[2])
        return y[..., window[0] : window[1]]

    plain = (
        not conjugated and spelling != "pad" and window in [(0, length), (kernel // 2, kernel // 2 + length), (0, n)]
    )
    must = plain and full <= n
    return function, double(*shape, kernel), double(3, 2, length), must


@SETTINGS
@given(programs(), st.sampled_from(["fft", "native", "auto"]))
def test_any_program_computes_the_same(problem, mode):
    function, kernel, x, must = problem
    program = capture_program(function, kernel, x, dynamic=False)
    if program.evaluate(x)[0].numel() == 0:
        return
    stages = program.run(*PASSES, convolution=mode)
    recognised = not transforms(program)
    assert recognised or remarks(stages, "declined", "convolution")
    assert recognised or not must
    # `norm="forward"` both ways divides the product, never the sizes of what is summed
    assert_close(program, scale=max(1.0, x.shape[-1] ** 0.5))


@SETTINGS
@given(
    st.integers(1, 6), st.integers(1, 6), st.integers(0, 4), st.booleans(), st.sampled_from(["sum", "einsum", "matmul"])
)
def test_any_dense_convolution(length, kernel, extra, two, spelling):
    n = max(length + kernel - 1 + extra, 2)
    size = (n,) * (2 if two else 1)
    axes = tuple(range(-len(size), 0))

    def function(k, x):
        a, b = tf.rfftn(x, s=size, dim=axes), tf.rfftn(k, s=size, dim=axes)
        if spelling == "sum":
            product = (a.unsqueeze(1) * b).sum(2)
        elif spelling == "einsum":
            product = torch.einsum("bi...,oi...->bo...", a, b)
        else:
            order = (2, 3, 0, 1) if two else (2, 0, 1)
            product = (a.permute(order) @ b.permute(order).mT).permute((2, 3, 0, 1) if two else (1, 2, 0))
        return tf.irfftn(product, s=size, dim=axes)[..., :length]

    program = capture_program(
        function, double(4, 2, *(kernel,) * len(size)), double(3, 2, *(length,) * len(size)), dynamic=False
    )
    program.run(*PASSES)
    assert not transforms(program)
    assert_close(program)


@pytest.mark.parametrize(
    ("equation", "ranks", "expected"),
    [
        ("bil,oil->bol", [3, 3], (["bil", "oil"], "bol")),
        ("...l,l", [3, 1], (["abl", "l"], "ab")),
        ("...l,...l->...l", [2, 3], (["bl", "abl"], "abl")),
        ("ii,ij->j", [2, 2], None),
        ("ij,jk->ik", [3, 2], None),
        ("ij->ji", [2, 2], None),
        ("...i,i->i", [2, 1], None),
    ],
)
def test_letters_of_einsum(equation, ranks, expected):
    assert einsum_terms(equation, ranks) == expected
