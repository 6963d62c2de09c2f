"""Every convolution gets a choice with its predicted costs, and each choice computes the same."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from tests.support.pass_testing import (
    EPS,
    Program,
    as_tuple,
    capture,
    capture_function,
    code,
    double,
    gradients,
    remarks,
)
from tzwc.models import operators
from tzwc.ops.conv import all_algorithms
from tzwc.passes.convolution import select_convolution

CONVOLUTION, PREPARE, PREPARED = (
    "conv.operator.convolution",
    "conv.operator.prepare_kernel",
    "conv.operator.prepared_convolution",
)


def _assert_close(program, norms):
    """As ``assert_unchanged``, with the bound of an FFT: 16 eps log2(n) times the norms of what is convolved."""
    leaves = [x.clone().requires_grad_() for x in program.inputs]
    expected, found = as_tuple(program.model(*leaves)), as_tuple(program.evaluate(*leaves))
    wanted = [*leaves, *program.model.parameters()]
    pairs = [*zip(found, expected, strict=True)]
    pairs += [*zip(gradients(found, wanted), gradients(expected, wanted), strict=True)]
    for a, b in pairs:
        torch.testing.assert_close(a, b, rtol=1e-13, atol=16 * EPS * 12 * norms)


@st.composite
def convolutions(draw):
    axes = draw(st.sampled_from([1, 1, 2]))
    groups, fan_in, multiplier = (draw(st.integers(1, 2)) for _ in range(3))
    kernel = [draw(st.integers(1, 7)) for _ in range(axes)]
    padding = draw(st.sampled_from(["same", "valid", 0, 1, 3]))
    stride = draw(st.sampled_from([1, 1, 2])) if padding != "same" else 1
    kind = (nn.Conv1d, nn.Conv2d)[axes - 1]
    layer = kind(
        groups * fan_in, groups * multiplier, kernel, stride=stride, padding=padding, groups=groups,
        bias=draw(st.booleans()),
    )  # fmt: skip
    lengths = [draw(st.integers(7, 12)) for _ in range(axes)]
    return layer.double(), torch.randn(2, groups * fan_in, *lengths, dtype=torch.float64)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths:UserWarning")
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(convolutions())
def test_fft_of_any_layer_is_the_layer(problem):
    layer, x = problem
    program = capture(nn.Sequential(layer, nn.Tanh()), x)
    program.run("normalize", "cse", "select_convolution", convolution="fft")
    assert program.counts()[PREPARED] == (1 if math.prod(layer.kernel_size) > 1 else 0)
    _assert_close(program, 4 * x.norm().item() * max(layer.weight.norm().item(), 1))
    before = code(program.module)
    program.run("normalize", "cse", "select_convolution", convolution="fft")
    assert code(program.module) == before


def test_a_static_kernel_is_prepared_on_its_own(prefer):
    prefer("fft")
    layer = nn.Conv1d(16, 16, 511, padding="same", groups=16).double()
    program = capture(layer, double(4, 16, 512))
    stages = program.run("normalize", "select_convolution")
    assert program.counts()[PREPARE] == program.counts()[PREPARED] == 1
    (prepared,) = [n for n in program.module.graph.nodes if n.name.startswith("prepare_kernel")]
    assert {a.op for a in prepared.all_input_nodes} == {"placeholder"}
    (remark,) = remarks(stages, "applied", "choose")
    assert remark.numbers["choice"] == "fft"
    assert remark.numbers["fft_predicted_us"] < remark.numbers["native_predicted_us"]
    _assert_close(program, 4 * 200.0)


@pytest.mark.parametrize("name", [name for name in all_algorithms() if name != "native"])
@pytest.mark.parametrize("axes", [1, 2])
def test_every_algorithm_computes_the_same(name, axes, prefer):
    prefer(name)
    layer = (nn.Conv1d, nn.Conv2d)[axes - 1](4, 4, 5, padding=2, groups=4).double()
    program = capture(layer, double(3, 4, *(12,) * axes))
    program.run("select_convolution")
    _assert_close(program, 4 * 20.0)
    assert program.evaluate(double(5, 4, *(12,) * axes))[0].shape == (5, 4, *(12,) * axes)


def test_gradients_have_algorithms_of_their_own(prefer):
    prefer("fft")
    program = capture(nn.Conv1d(4, 4, 31, padding=15, groups=4).double(), double(3, 4, 64))
    program.slot_names = frozenset()  # the kernel is being trained
    stages = program.run("select_convolution", grad=True)
    assert program.counts()[CONVOLUTION] == 1
    for rule in ("choose", "choose_input_gradient", "choose_weight_gradient"):
        (remark,) = remarks(stages, "applied", rule)
        assert remark.numbers["choice"] == "fft"
    (node,) = [n for n in program.module.graph.nodes if n.name.startswith("convolution")]
    assert (node.kwargs["algorithm"], node.kwargs["input_gradient"], node.kwargs["weight_gradient"]) == ("fft",) * 3
    _assert_close(program, 4 * 200.0)


@pytest.mark.parametrize("mode", ["auto", "native"])
def test_what_is_fastest_as_it_is_stays(mode, prefer):
    prefer("native")
    program = capture(nn.Conv1d(4, 4, 5, padding=2).double(), double(2, 4, 16))
    stages = program.run("select_convolution", convolution=mode)
    assert set(program.counts()) == {"aten.conv1d.default"}
    (remark,) = remarks(stages, "declined", "choose")
    assert remark.numbers["choice"] == "native"


def test_exact_leaves_out_what_spreads_nan(prefer):
    prefer("fft", "channels_last")
    program = capture(nn.Conv1d(4, 4, 31, padding=15, groups=4).double(), double(2, 4, 64))
    (remark,) = remarks(program.run("select_convolution", exact=True), "applied", "choose")
    assert remark.numbers["choice"] == "channels_last"
    x = double(2, 4, 64)
    x[0, 1, 40] = torch.nan
    assert torch.equal(program.evaluate(x)[0].isnan(), program.model(x).isnan())


def test_tuning_can_be_off(prefer):
    prefer("fft")
    program = capture(nn.Conv1d(4, 4, 31, padding=15, groups=4).double(), double(2, 4, 64))
    (remark,) = remarks(program.run("select_convolution", tune="off"), "declined", "choose")
    assert "tuning is off" in remark.reason


class Padded(nn.Module):
    """Padding, circular or of zeros, and reversed taps outside of the convolution."""

    def __init__(self, mode: str, zeros: tuple[int, int] = (0, 0)) -> None:
        super().__init__()
        self.mode, self.zeros = mode, zeros
        self.weight = nn.Parameter(double(4, 1, 7))

    def forward(self, x):
        x = F.pad(x, (5, 1), mode=self.mode)
        return F.conv1d(F.pad(x, self.zeros), self.weight.flip(-1), groups=4)


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (Padded("circular"), {"padding_mode": "circular", "padding": ((5, 1),), "flip": True}),
        (Padded("constant", (1, 2)), {"padding": ((6, 3),), "flip": True}),
        (Padded("circular", (1, 2)), {"padding": ((1, 2),), "flip": True}),  # zeros around periods stay outside
        (Padded("reflect"), {"padding": ((0, 0),), "flip": True}),
    ],
    ids=["circular", "zeros", "zeros around periods", "reflected"],
)
def test_padding_and_reversal_become_part_of_the_convolution(model, expected):
    program = capture(model, double(3, 4, 16))
    program.run("normalize", "select_convolution", convolution="fft")
    (node,) = [n for n in program.module.graph.nodes if n.name.startswith("prepared_convolution")]
    found = {name: value for name, value in node.kwargs.items() if name in ("padding", "padding_mode", "flip")}
    assert found == expected
    _assert_close(program, 4 * 200.0)


@pytest.mark.parametrize("mode", ["constant", "circular"])
def test_padding_of_two_axes_belongs_to_each_of_them(mode):
    program = capture_function(
        lambda k, x: F.conv2d(F.pad(x, (1, 2, 3, 4), mode=mode), k), [double(4, 4, 5, 5)], double(3, 4, 9, 9)
    )
    program.run("normalize", "select_convolution", convolution="fft")
    (node,) = [n for n in program.module.graph.nodes if n.name.startswith("prepared_convolution")]
    assert node.kwargs["padding"] == ((3, 4), (1, 2))
    _assert_close(program, 4 * 200.0)


def test_dilation_stride_and_even_kernels():
    layer = nn.Conv2d(4, 6, (4, 3), stride=(2, 1), padding=3, dilation=(1, 2), groups=2).double()
    program = capture(layer, double(3, 4, 12, 15))
    program.run("select_convolution", convolution="fft")
    assert program.counts()[PREPARED] == 1
    _assert_close(program, 4 * 200.0)


@pytest.mark.parametrize("axes", [1, 2])
@pytest.mark.parametrize("padding", ["same", "causal"])
@pytest.mark.parametrize("grad", [False, True])
def test_values_with_one_product_share_one_spectrum(axes, padding, grad):
    shape = (2, *(6,) * axes)

    def function(k, x):
        z, v = x[:, 0], x[:, 1]
        w = z * k
        return operators.convolve(w, v, padding), operators.convolve(w, torch.sin(v), padding)

    program = capture_function(function, [double(1, *shape)], double(3, 2, *shape))
    program.run("normalize", "cse", "fuse_hyperzzw", "select_convolution", convolution="fft", grad=grad)
    counts = program.counts()
    assert (counts[PREPARE], counts[PREPARED], counts[CONVOLUTION]) == ((0, 0, 2) if grad else (1, 2, 0))
    _assert_close(program, 4 * 200.0)
    assert program.evaluate(double(5, 2, *shape))[0].shape == (5, *shape)


def test_one_kernel_a_sample_that_is_no_product():
    def function(k, x):
        taps = torch.tanh(x + k)
        rows = x.reshape(1, -1, 12)
        return F.conv1d(rows, taps.reshape(-1, 1, 12), padding=6, groups=rows.shape[1]).view(x.shape[0], 2, -1)

    program = capture_function(function, [double(1, 2, 12)], double(3, 2, 12))
    program.run("normalize", "cse", "fuse_hyperzzw", "select_convolution", convolution="fft")
    assert program.counts()[CONVOLUTION] == 1
    _assert_close(program, 4 * 200.0)
    assert program.evaluate(double(5, 2, 12))[0].shape == (5, 2, 13)


def test_a_full_context_convolution_is_transformed(prefer):
    prefer("fft")

    def function(k, x):
        return operators.convolution(x, k, torch.tanh(x))

    program = capture_function(function, [double(1, 8, 784)], double(4, 8, 784))
    program.run("normalize", "cse", "fuse_hyperzzw", "select_convolution")
    assert program.counts()[CONVOLUTION] == 1


def test_taps_that_are_reversed_along_one_axis_of_two_are_read_reversed():
    program = capture(Program(lambda k, x: F.conv2d(x, k.flip(-1)), [double(4, 4, 3, 5)]), double(2, 4, 9, 9))
    program.run("select_convolution", convolution="fft")
    (node,) = [n for n in program.module.graph.nodes if n.name.startswith("prepared_convolution")]
    assert "flip" not in node.kwargs
    assert program.counts()["aten.flip.default"] == 1
    _assert_close(program, 4 * 200.0)


@pytest.mark.parametrize("innermost", [False, True])
@pytest.mark.parametrize("axes", [1, 2, 3])
def test_the_choice_is_told_of_memory_with_the_channels_innermost(axes, innermost, monkeypatch):
    layer = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[axes - 1](4, 4, 3).double()
    x = double(2, 4, *(6,) * axes)
    if innermost:
        x = x.movedim(1, -1).contiguous().movedim(-1, 1)
    asked = []
    monkeypatch.setattr(select_convolution, "decide", lambda problem, *_, **__: asked.append(problem))
    program = capture(layer, x)
    program.run("select_convolution")
    assert [problem.channels_last for problem in asked] == [innermost and axes > 1]
