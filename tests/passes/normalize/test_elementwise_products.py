"""Elementwise products are found in einsum and below transposes, and only there."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.pass_testing import assert_unchanged, capture_function

SIZES = {"b": 3, "c": 2, "i": 4, "k": 5}


def _double(*shape):
    return torch.randn(shape, dtype=torch.float64)


K, Z = _double(4, 5), _double(3, 4, 5)
FOUND = {
    "subset": lambda k, z: torch.einsum("bik,ik->bik", z, k),
    "subset first": lambda k, z: torch.einsum("ik,bik->bik", k, z),
    "another order": lambda k, z: torch.einsum("bik,ki->kbi", z, k.mT),
    "inner letter": lambda k, z: torch.einsum("bik,i->bik", z, k[:, 0]),
    "ellipsis": lambda k, z: torch.einsum("...k,k->...k", z, k[0]),
    "scalar": lambda k, z: torch.einsum("bik,->bik", z, k.sum()),
    "three factors": lambda k, z: torch.einsum("bik,ik,bik->bik", z, k, z),
    "transposed": lambda k, z: (z.mT * k.expand_as(z).mT).mT,
}


@pytest.mark.parametrize("spelling", FOUND)
def test_it_becomes_a_multiplication(spelling):
    program = capture_function(FOUND[spelling], [K], Z)
    program.run("normalize")
    counts = program.counts()
    assert counts["aten.mul.Tensor"] == (2 if spelling == "three factors" else 1)
    assert not counts["aten.einsum.default"]
    assert_unchanged(program)
    assert_unchanged(program, _double(5, 4, 5))


@pytest.mark.parametrize("more", [False, True])
def test_factors_with_two_open_sizes(more):
    def function(c, u, w):
        k = u[:, None] * w
        z = torch.sin(k)[:, None] * c
        return torch.einsum("bik,bk,ij->bjk", z, k, c) if more else torch.einsum("bik,bk->bik", z, k)

    program = capture_function(function, [_double(4, 1)], _double(3), _double(5))
    before = program.counts()["aten.mul.Tensor"]
    program.run("normalize")
    assert program.counts()["aten.mul.Tensor"] == before + 1
    assert program.counts()["aten.einsum.default"] == more
    assert_unchanged(program)
    assert_unchanged(program, _double(2), _double(7))


MISSES = {
    "summed letter": lambda k, z: torch.einsum("bik,ik->bi", z, k),
    "outer product": lambda k, z: torch.einsum("bi,k->bik", z[..., 0], k[0]),
    "diagonal": lambda k, z: torch.einsum("bii,i->bi", z[..., :4], k[:, 0]),
    "broadcast size": lambda k, z: torch.einsum("bik,ik->bik", z, k[:1]),
    "three, no pair": lambda k, z: torch.einsum("bik,kj,jl->bil", z, k.mT, k),
    "moved differently": lambda k, z: z.permute(0, 2, 1) * k.expand_as(z)[..., :4].permute(1, 0, 2)[:3, :1],
}


@pytest.mark.parametrize("case", MISSES)
def test_near_misses(case):
    program = capture_function(MISSES[case], [K], Z)
    before = program.counts()
    program.run("normalize")
    assert program.counts()["aten.mul.Tensor"] == before["aten.mul.Tensor"]
    assert program.counts()["aten.einsum.default"] == before["aten.einsum.default"]
    assert_unchanged(program)


@settings(max_examples=15, deadline=None)
@given(
    terms=st.lists(st.lists(st.sampled_from("bcik"), unique=True, min_size=1, max_size=4), min_size=2, max_size=3),
    whole=st.permutations("bcik"),
    kept=st.integers(1, 4),
    place=st.integers(0, 3),
)
def test_any_equation_keeps_its_value(terms, whole, kept, place):
    names = ["".join(term) for term in terms]
    names.insert(min(place, len(names)), "".join(whole))
    equation = f"{','.join(names)}->{''.join(whole[:kept])}"
    operands = [_double(*(SIZES[letter] for letter in name)) for name in names]

    def function(*tensors):
        return torch.einsum(equation, *tensors[1:], tensors[0])

    # Up to 120 terms of four factors in another order: their rounding is below 4 · 120 eps of the sum of their moduli,
    # which may exceed the largest result a few times.
    equation = ",".join([*names[1:], names[0]]) + "->" + "".join(whole[:kept])
    program = capture_function(function, operands[:1], *operands[1:])
    program.run("normalize")
    assert_unchanged(program, factor=2048.0)
