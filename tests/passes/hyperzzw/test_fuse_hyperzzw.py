"""Every spelling of the operator is recognised, and near misses are declined for the right reason."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import nn

from tests.support.hyperzzw_spellings import CONVOLUTIONS, DOT, GATE, B, C, N, groups, rows, taps
from tests.support.pass_testing import assert_unchanged, capture, capture_function, code, double, remarks
from tzwc.models import operators

PASSES = ("normalize", "cse", "fuse_hyperzzw")


pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths:UserWarning")


@pytest.mark.parametrize("spelling", DOT)
def test_dot_product_is_recognised(spelling):
    program = capture_function(DOT[spelling], [double(1, C, N, N)], double(B, C, N, N), double(B, C, N, N))
    stages = program.run(*PASSES)
    counts = program.counts()
    assert counts["hyperzzw_dot"] == 1
    assert not counts["aten.matmul.default"]
    assert remarks(stages, "applied", "dot")
    assert_unchanged(program)
    assert_unchanged(program, double(B + 2, C, N, N), double(B + 2, C, N, N))


def _capture_pair(function, shape):
    """``z`` and ``v`` from one input, so that they provably have the same number of samples."""
    return capture_function(lambda k, x: function(k, x[:, 0], x[:, 1]), [double(1, *shape)], double(B, 2, *shape))


@pytest.mark.parametrize(("axes", "function"), [c[1:] for c in CONVOLUTIONS], ids=[c[0] for c in CONVOLUTIONS])
def test_convolution_is_recognised(axes, function):
    shape = (C, *(N,) * axes)
    program = _capture_pair(function, shape)
    stages = program.run(*PASSES)
    counts = program.counts()
    assert counts["hyperzzw_convolution"] == 1
    assert not any("conv" in name and "hyperzzw" not in name for name in counts)
    assert remarks(stages, "applied", "convolution")
    assert_unchanged(program)
    assert_unchanged(program, double(B + 1, 2, *shape))


@pytest.mark.parametrize("spelling", GATE)
def test_gate_is_recognised(spelling):
    program = capture_function(GATE[spelling], [double(1, C, N)], double(B, C, N))
    stages = program.run(*PASSES)
    assert program.counts()["hyperzzw_gate"] == 1
    assert program.counts()["aten.mul.Tensor"] == 0
    assert remarks(stages, "applied", "gate")
    assert_unchanged(program)


def _declined_cases():
    def scalar(k, z, v):
        return (z * k * 1 * 0.5).mul(2.0) @ v

    def scale_between(k, z, v):
        return ((z + k) * 0.5) @ v

    def right(k, z, v):
        return v @ (z * k)

    def broadcast(k, z, v):
        return (z * k) @ v[:1]

    def broadcast_rank(k, z, v):
        return (z * k) @ v[0, 0]

    def written(k, z, v):
        w = z * k
        w[:, :, 0].zero_()
        return w @ v

    def vector(k, z, v):
        return torch.einsum("bcik,bck->bci", z * k, v[..., 0])

    def chain(k, z, v):
        return torch.einsum("bcik,bckj,bcjl->bcil", z, k.expand_as(z), v)

    return {
        "scalar after product": (scalar, "dot", "constant 2.0"),
        "scaled sum": (scale_between, "dot", "constant 0.5"),
        "product on the right": (right, "dot", "right operand"),
        "broadcast values": (broadcast, "dot", "leading sizes must be equal"),
        "broadcast values of lower rank": (broadcast_rank, "dot", "leading sizes must be equal"),
        "product written to": (written, "dot", "writes to"),
        "matrix times vector": (vector, "einsum", "not a batched matrix product"),
        "chain of matrix products": (chain, "einsum", "not two operands"),
    }


@pytest.mark.parametrize("case", _declined_cases())
def test_near_misses_of_the_dot_product(case):
    function, rule, reason = _declined_cases()[case]
    program = capture_function(function, [double(1, C, N, N)], double(B, C, N, N), double(B, C, N, N))
    stages = program.run(*PASSES)
    assert program.counts()["hyperzzw_dot"] == 0
    assert any(reason in r.reason for r in remarks(stages, "declined", rule)), remarks(stages)
    assert_unchanged(program)


@pytest.mark.parametrize(
    "function",
    [
        lambda k, z, v: (z + k) @ v,
        lambda k, z, v: ((z * k) * v).sum(-1),
        lambda k, z, v: torch.relu(z * k) @ v,
        lambda k, z, v: (z * k).softmax(-1) @ v,
        lambda k, z, v: torch.stack([torch.mm((z * k)[0, c], v[0, c]) for c in range(C)]),
    ],
)
def test_other_operators_are_left_without_a_word(function):
    program = capture_function(function, [double(1, C, N, N)], double(B, C, N, N), double(B, C, N, N))
    stages = program.run(*PASSES)
    assert program.counts()["hyperzzw_dot"] == 0
    assert not remarks(stages, "declined")
    assert_unchanged(program)


CONVOLUTION_MISSES = {
    "dilation": (
        lambda k, z, v: F.conv1d(rows(v), taps(z * k), padding=N, dilation=2, groups=groups(v)),
        "dilation [2] is not 1",
    ),
    "stride": (
        lambda k, z, v: F.conv1d(rows(v), taps(z * k), padding=N, stride=2, groups=groups(v)),
        "stride [2] is not 1",
    ),
    "fewer groups": (
        lambda k, z, v: F.conv1d(v[:1], (z * k)[0].unsqueeze(1), padding="same", groups=C),
        None,
    ),
    "channels summed": (
        lambda k, z, v: F.conv1d(v, z * k, padding="same"),
        "groups; one for each of the",
    ),
    "scaled product": (
        lambda k, z, v: F.conv1d(rows(v + k), taps(z * 0.5), padding="same", groups=groups(v)),
        "a tensor times a scalar",
    ),
    "values of other samples": (
        lambda k, z, v: F.conv1d(v.transpose(0, 1).reshape(1, -1, N), taps(z * k), padding="same", groups=groups(v)),
        "values have not the samples and channels",
    ),
    "reflected padding": (
        lambda k, z, v: F.conv1d(F.pad(rows(v), (2, 2), "reflect"), taps(z * k), groups=groups(v)),
        "values have not the samples and channels",
    ),
    "bias": (
        lambda k, z, v: F.conv1d(rows(v), taps(z * k), v.mean(-1).reshape(-1), padding=N, groups=groups(v)),
        "bias",
    ),
}


@pytest.mark.parametrize("case", CONVOLUTION_MISSES)
def test_near_misses_of_the_convolution(case):
    function, reason = CONVOLUTION_MISSES[case]
    program = _capture_pair(function, (C, N))
    stages = program.run(*PASSES)
    assert program.counts()["hyperzzw_convolution"] == 0
    said = [r.reason for r in remarks(stages, "declined", "convolution")]
    assert any(reason in s for s in said) if reason else not said, said
    assert_unchanged(program)


def test_gate_keeps_a_product_that_is_used_elsewhere():
    program = capture_function(lambda k, z: (z * k * z, torch.relu(z * k)), [double(1, C, N)], double(B, C, N))
    stages = program.run(*PASSES)
    assert program.counts()["hyperzzw_gate"] == 0
    assert "other uses" in remarks(stages, "declined", "gate")[0].reason
    assert_unchanged(program)


def test_values_that_share_a_product_become_one_call():
    def function(k, z, u, v):
        w = z * k
        fast = torch.tanh(w) + z
        first = w @ fast
        early = torch.relu(first)  # used before the last value exists
        return early, w @ (u + 1), torch.einsum("bcik,bckj->bcij", k * z, v)

    tensors = [double(B, C, N, N) for _ in range(3)]
    program = capture_function(function, [double(1, C, N, N)], *tensors)
    stages = program.run(*PASSES)
    (call,) = [n for n in program.module.graph.nodes if n.target.__class__.__name__ == "function"]
    assert program.counts()["hyperzzw_dot"] == 1
    assert len(call.args) == 5
    assert call.kwargs["product"].target is torch.ops.aten.mul.Tensor  # tanh needs it as well
    assert remarks(stages, "applied", "merge")[0].numbers == {"values": 3}
    assert_unchanged(program)


def test_a_value_that_depends_on_another_result_stays_apart():
    def function(k, z, u):
        w = z * k
        first = w @ u
        return w @ torch.tanh(first), w @ (u * 2.0)

    program = capture_function(function, [double(1, C, N, N)], double(B, C, N, N), double(B, C, N, N))
    stages = program.run(*PASSES)
    assert program.counts()["hyperzzw_dot"] == 2
    assert "depends on the result" in remarks(stages, "declined", "merge")[0].reason
    assert_unchanged(program)


def test_random_numbers_keep_their_order():
    def function(k, z, u):
        w = z * k
        noise = torch.relu(w @ u) + torch.rand_like(z)
        return noise, w @ (u + torch.rand_like(u))

    program = capture_function(function, [double(1, C, N, N)], double(B, C, N, N), double(B, C, N, N))
    before = [n.name for n in program.module.graph.nodes if "rand" in n.name]
    program.run(*PASSES)
    assert [n.name for n in program.module.graph.nodes if "rand" in n.name] == before
    assert program.counts()["hyperzzw_dot"] == 1


def test_convolutions_of_several_values_share_one_call():
    def function(k, z, u):
        w = z * k
        return operators.convolve(w, u), operators.convolve(w, u * u), operators.convolve(w, u + z, "causal")

    program = _capture_pair(function, (C, N))
    program.run(*PASSES)
    assert program.counts()["hyperzzw_convolution"] == 2  # two paddings
    assert_unchanged(program)


class _Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.kernel = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, C)).double()
        self.norm = nn.BatchNorm2d(C).double()
        grid = torch.linspace(-1, 1, N).double()
        self.register_buffer("grid", torch.stack(torch.meshgrid(grid, grid, indexing="ij"), -1))

    def forward(self, x):
        weight = x * rearrange(self.kernel(self.grid), "h w c -> 1 c h w")
        return torch.relu_(weight @ self.norm(x)) + x


def test_a_module_with_buffers_that_it_updates():
    program = capture(_Layer(), double(B, C, N, N))
    program.run(*PASSES)
    assert program.counts()["hyperzzw_dot"] == 1
    assert_unchanged(program)


@pytest.mark.parametrize("function", [DOT["bmm"], DOT["einsum, value first"], lambda k, z, v: (z * k) @ v @ (z * k)])
def test_running_twice_changes_nothing_more(function):
    program = capture_function(function, [double(1, C, N, N)], double(B, C, N, N), double(B, C, N, N))
    program.run(*PASSES)
    before = code(program.module)
    program.run(*PASSES)
    assert code(program.module) == before
