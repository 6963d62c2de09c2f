"""Canonical forms: what disappears, what is kept, and that no value or gradient changes."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import fx

from tests.support.pass_testing import Program, assert_unchanged, capture, capture_function, code, remarks
from tzwc.passes import by_name
from tzwc.rewrite.pass_manager import PassContext

aten = torch.ops.aten

K, X = torch.randn(4, 5, dtype=torch.float64), torch.randn(3, 4, 5, dtype=torch.float64)

REMOVED = {
    "dropout with p=0": lambda k, x: F.dropout(x * k, 0.0, training=True) + 1,
    "dropout in evaluation": lambda k, x: F.dropout(x * k, 0.5, training=False) + 1,
    "feature dropout": lambda k, x: F.dropout1d(x * k, 0.0) + 1,
    "times one": lambda k, x: (x * k) * 1.0 + 1,
    "divided by one": lambda k, x: (x * k) / 1 + 1,
    "same dtype": lambda k, x: (x * k).to(torch.float64).double() + 1,
    "expand to the same": lambda k, x: (x * k).expand(-1, 4, 5) + 1,
    "contiguous": lambda k, x: (x * k).contiguous() + 1,
    "identity permutation": lambda k, x: (x * k).permute(0, 1, 2) + 1,
    "there and back": lambda k, x: (x * k).mT.mT + 1,
    "reshape there and back": lambda k, x: (x * k).reshape(-1, 20).view(-1, 4, 5) + 1,
    "squeeze and unsqueeze": lambda k, x: (x * k).unsqueeze(1).squeeze(1) + 1,
    "whole slice": lambda k, x: (x * k)[:, :, 0:] + 1,
    "whole slice, from the end": lambda k, x: (x * k)[:, -4:] + 1,
    "axes of size 1 moved and back": lambda k, x: (x * k)[None].transpose(0, 1).reshape(-1, 4, 5) + 1,
}


@pytest.mark.parametrize("name", REMOVED)
def test_what_does_nothing_disappears(name):
    program = capture_function(REMOVED[name], [K], X)
    program.run("normalize")
    assert {n for n in program.counts() if "sym_size" not in n and "_assert" not in n} == {
        "aten.mul.Tensor",
        "aten.add.Tensor",
    }
    assert_unchanged(program)
    assert_unchanged(program, torch.randn(5, 4, 5, dtype=torch.float64))


KEPT = {
    "times one, a copy for the caller": (lambda _, x: x * 1.0, "aten.mul.Tensor"),
    "times one, other dtype": (lambda k, x: (x > 0) * 1 + k.long(), "aten.mul.Tensor"),
    "plus zero turns -0.0 into 0.0": (lambda k, x: (x * k + 0.0) * 2, "aten.add.Tensor"),
    "detach stops gradients": (lambda k, x: (x * k).detach() + x, "aten.detach.default"),
    "dropout that drops": (lambda k, x: F.dropout(x * k, 0.5), "aten.dropout.default"),
    "dropout of p=0 that is written to": (lambda k, x: F.dropout(x * k, 0.0).add_(1) * 2, "aten.dropout.default"),
    "clone": (lambda _, x: x.clone(), "aten.clone.default"),
    "permutation of equal sizes": (lambda _, x: (x @ x.mT).mT + 1, "aten.permute.default"),
    "a copy that is asked for": (lambda k, x: (x * k).to(torch.float64, copy=True) + 1, "aten.to.dtype"),
    "slice from the second": (lambda _, x: x[:, 1:] * 2, "aten.slice.Tensor"),
}


@pytest.mark.parametrize("name", KEPT)
def test_what_does_something_stays(name):
    function, target = KEPT[name]
    program = capture_function(function, [K], X)
    program.run("normalize")
    assert program.counts()[target]
    if "drops" not in name:
        assert_unchanged(program)


def test_a_number_has_no_axes_to_reorder():
    program = capture_function(lambda k, x: (x * k).sum().transpose(0, -1) + 1, [K], X)
    program.run("normalize")
    assert set(program.counts()) == {"aten.mul.Tensor", "aten.sum.default", "aten.add.Tensor"}
    assert_unchanged(program)


@pytest.mark.parametrize("rank", [2, 3, 4])
def test_a_product_of_transposes_is_the_transpose_of_one(rank):
    shape = (3, 2)[: rank - 2]
    tensors = [torch.randn(*shape, 4, 5, dtype=torch.float64), torch.randn(*shape, 5, 6, dtype=torch.float64)]
    program = capture(Program(lambda a, b: (b * 2).mT @ (a * 2).mT, tensors))
    program.run("normalize")
    assert program.counts()["aten.permute.default"] == 1
    assert_unchanged(program)


@pytest.mark.parametrize(
    ("target", "arguments"),
    [(aten.expand.default, ([3, 4],)), (aten.view.default, ([3, 4],)), (aten.unsqueeze.default, (0,))],
)
def test_tensors_of_which_nothing_is_known_are_left(target, arguments):
    graph = fx.Graph()
    call = graph.call_function(target, (graph.placeholder("x"), *arguments))
    graph.output(call)
    module = fx.GraphModule({}, graph)
    by_name("normalize").run(module, PassContext("n", {}, frozenset()))
    assert call in graph.nodes


@pytest.mark.parametrize(
    "function",
    [torch.bmm, torch.linalg.matmul, lambda a, b: torch.mm(a[0], b[0]), lambda a, b: torch.multiply(a[:, :1], b)],
)
def test_other_names_of_products_are_canonical_without_a_word(function):
    program = capture_function(lambda k, x: function(k, x), [torch.randn(3, 3, 4, dtype=torch.float64)], X[..., :4, :4])
    stages = program.run("normalize")
    assert len({"aten.mul.Tensor", "aten.matmul.default"} & set(program.counts())) == 1
    assert not remarks(stages)
    assert_unchanged(program)


def test_products_of_tensors_permuted_otherwise_are_left():
    program = capture_function(
        lambda k, x: (k * 2).permute(1, 2, 0) @ (x * 2).permute(2, 0, 1), [torch.randn_like(X[:, :3, :3])], X[:, :3, :3]
    )
    program.run("normalize")
    assert program.counts()["aten.permute.default"] == 2
    assert_unchanged(program)


EINSUMS = st.sampled_from(
    ["bij,bjk->bik", "bij,bkj->bik", "bji,bjk->bki", "ij,jk->ki", "bij,jk->bik", "bij,bij->b", "i,j->ij",
     "bij,bjk->bk", "bii,bik->bik", "...ij,...jk->...ik", "bij,bjk", "bhij,bhkj->bhik", "bihj,bkhj->bhik"]
)  # fmt: skip


@settings(max_examples=26, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(EINSUMS, st.integers(1, 3), st.booleans())
def test_einsum_keeps_its_meaning(equation, size, swapped):
    sizes = {"b": 3, "h": 2, "i": size, "j": 2, "k": size if "bii" in equation else 4}
    left, right = equation.replace("...", "b").split("->")[0].split(",")
    if swapped:
        terms, _, out = equation.partition("->")
        equation = ",".join(reversed(terms.split(","))) + ("->" + out if out else "")
        left, right = right, left
    tensors = [torch.randn([sizes[c] for c in term], dtype=torch.float64) for term in (left, right)]
    program = capture_function(lambda a, b: torch.einsum(equation, a + 0, b + 0), tensors)
    program.run("normalize")
    counts = program.counts()
    assert bool(counts["aten.matmul.default"]) != bool(counts["aten.einsum.default"])
    assert_unchanged(program)


def test_einsum_that_broadcasts_is_left():
    program = capture_function(
        lambda k, x: torch.einsum("bij,bjk->bik", k[None], x), [torch.randn(5, 4, dtype=torch.float64)], X
    )
    stages = program.run("normalize")
    assert "broadcasts" in remarks(stages, "declined", "einsum")[0].reason
    assert_unchanged(program)


@pytest.mark.parametrize(("equation", "transposed"), [("ij,jk", False), ("ij,ki", True)])
def test_einsum_without_an_arrow(equation, transposed):
    tensors = [torch.randn(3, 3, dtype=torch.float64) for _ in range(2)]
    program = capture_function(lambda a, b: torch.einsum(equation, a + 0, b + 0), tensors)
    program.run("normalize")
    assert program.counts()["aten.matmul.default"] == 1
    assert bool(program.counts()["aten.permute.default"]) == transposed
    assert_unchanged(program)


def test_einsum_with_ellipses_of_different_lengths_is_left():
    program = capture_function(
        lambda k, x: torch.einsum("...ij,...jk->...ik", k + 0, x), [torch.randn(6, 4, dtype=torch.float64)], X
    )
    stages = program.run("normalize")
    assert "different numbers of axes" in remarks(stages, "declined", "einsum")[0].reason
    assert_unchanged(program)


def test_einsum_of_a_diagonal_is_left():
    program = capture_function(
        lambda k, x: torch.einsum("bbik,bkj->bij", k + 0, x), [torch.randn(3, 3, 2, 4, dtype=torch.float64)], X
    )
    stages = program.run("normalize")
    assert remarks(stages, "declined", "einsum")[0].reason == "an index occurs twice in one term"
    assert_unchanged(program)


def test_a_product_of_rows_regrouped_with_samples_is_left():
    def function(a, x):
        return torch.matmul((a * 2).reshape(1, 24, 5), (x * 2).reshape(6, 5, 7))

    weight = torch.randn(2, 3, 4, 5, dtype=torch.float64)
    program = capture_function(function, [weight], torch.randn(2, 3, 5, 7, dtype=torch.float64))
    program.run("normalize")
    assert program.counts()["aten.reshape.default"] == 2
    assert_unchanged(program)


STEPS = {
    "transpose": lambda x, _: x.transpose(-1, -2),
    "flat": lambda x, _: x.flatten(1),
    "fold": lambda x, _: x.reshape(x.shape[0], -1, 2),
    "view": lambda x, _: x.contiguous().view(x.shape[0], 2, -1),
    "sin": lambda x, _: torch.sin(x),
    "relu_": lambda x, _: torch.relu_(x * 2),
    "scale": lambda x, k: x * k.sum(),
    "one": lambda x, _: x * 1.0,
    "gram": lambda x, _: torch.einsum("bij,bkj->bik", *(2 * [x.reshape(x.shape[0], 4, -1)])) / 20,
    "extra axis": lambda x, _: x.unsqueeze(1).transpose(1, 2).squeeze(2) if x.dim() == 3 else x.unsqueeze(-1),
    "drop": lambda x, _: F.dropout(x, 0.0),
    "residual": lambda x, _: x + x.clone().mul_(0.5),
}


@settings(max_examples=18, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.sampled_from(sorted(STEPS)), min_size=2, max_size=7))
def test_random_programs_are_unchanged_and_passes_idempotent(names):
    def function(k, x):
        for name in names:
            x = STEPS[name](x, k)
        return x

    torch.manual_seed(len(names))
    program = capture_function(function, [K], X)
    program.run("normalize", "cse", "fuse_hyperzzw", "select_convolution")
    assert_unchanged(program)
    before = code(program.module)
    program.run("normalize", "cse", "fuse_hyperzzw", "select_convolution")
    assert code(program.module) == before
