"""Every convolution gets a choice with its predicted costs, and each choice computes the same."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pass_testing import EPS, as_tuple, assert_unchanged, capture, capture_function, code, gradients, remarks
from torch import nn

from tzwc.errors import InvalidArgumentError
from tzwc.models import operators
from tzwc.passes.convolution_cost import Workload, choose, costs

FFT = "convolution.fft_convolution"
SPECTRUM = "convolution.kernel_spectrum"
DIRECT = "convolution.direct_convolution"


def _double(*shape):
    return torch.randn(*shape, dtype=torch.float64)


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
    assert program.counts()[FFT] == (1 if math.prod(layer.kernel_size) > 1 else 0)
    _assert_close(program, 4 * x.norm().item() * max(layer.weight.norm().item(), 1))
    before = code(program.module)
    program.run("normalize", "cse", "select_convolution", convolution="fft")
    assert code(program.module) == before


def test_a_long_depthwise_kernel_is_transformed_and_its_spectrum_stands_alone():
    layer = nn.Conv1d(16, 16, 511, padding="same", groups=16).double()
    program = capture(layer, _double(4, 16, 512))
    stages = program.run("normalize", "select_convolution")
    assert program.counts()[FFT] == program.counts()[SPECTRUM] == 1
    (spectrum,) = [n for n in program.module.graph.nodes if n.name.startswith("kernel_spectrum")]
    assert {a.op for a in spectrum.args[0].all_input_nodes} == {"placeholder"}
    (remark,) = remarks(stages, "applied", "choose")
    assert remark.numbers["choice"] == "fft"
    assert remark.numbers["fft_us"] < remark.numbers["native_us"]
    _assert_close(program, 4 * 200.0)


def test_a_middle_kernel_is_padded_first():
    layer = nn.Conv2d(16, 16, 15, padding=7, groups=16)
    program = capture(layer, torch.randn(4, 16, 32, 32))
    stages = program.run("select_convolution")
    assert program.counts()[DIRECT] == 1
    assert remarks(stages, "applied", "choose")[0].numbers["choice"] in ("prepadded", "channels_last")
    torch.testing.assert_close(program.evaluate(*program.inputs)[0], layer(*program.inputs), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("mode", ["auto", "native"])
def test_a_short_kernel_stays_native(mode):
    program = capture(nn.Conv1d(4, 4, 5, padding=2).double(), _double(2, 4, 16))
    stages = program.run("select_convolution", convolution=mode)
    assert not program.counts()[FFT]
    (remark,) = remarks(stages, "declined", "choose")
    assert remark.numbers["choice"] == "native"


@pytest.mark.parametrize("axes", [1, 2])
@pytest.mark.parametrize("padding", ["same", "causal"])
def test_values_with_one_product_share_one_spectrum(axes, padding):
    shape = (2, *(6,) * axes)

    def function(k, x):
        z, v = x[:, 0], x[:, 1]
        w = z * k
        return operators.convolve(w, v, padding), operators.convolve(w, torch.sin(v), padding)

    program = capture_function(function, [_double(1, *shape)], _double(3, 2, *shape))
    program.run("normalize", "cse", "fuse_hyperzzw", "select_convolution", convolution="fft")
    counts = program.counts()
    assert counts[SPECTRUM] == 1
    assert counts[FFT] == 2
    _assert_close(program, 4 * 200.0)
    assert program.evaluate(_double(5, 2, *shape))[0].shape == (5, *shape)


def test_one_kernel_a_sample_that_is_no_product():
    def function(k, x):
        taps = torch.tanh(x + k)
        rows = x.reshape(1, -1, 12)
        return F.conv1d(rows, taps.reshape(-1, 1, 12), padding=6, groups=rows.shape[1]).view(x.shape[0], 2, -1)

    program = capture_function(function, [_double(1, 2, 12)], _double(3, 2, 12))
    program.run("normalize", "cse", "fuse_hyperzzw", "select_convolution", convolution="fft")
    assert program.counts()[FFT] == 1
    _assert_close(program, 4 * 200.0)
    assert program.evaluate(_double(5, 2, 12))[0].shape == (5, 2, 13)


def test_a_full_context_convolution_is_transformed():
    def function(k, x):
        return operators.convolution(x, k, torch.tanh(x))

    program = capture_function(function, [_double(1, 8, 784)], _double(4, 8, 784))
    program.run("normalize", "cse", "fuse_hyperzzw", "select_convolution")
    assert program.counts()[FFT] == 1


@pytest.mark.parametrize(
    ("layer", "shape", "reason"),
    [
        (nn.Conv1d(4, 4, 5, dilation=2), (2, 4, 32), "dilation [2] is not 1"),
        (nn.Conv1d(4, 4, 5), (4, 32), "no batch axis"),
    ],
    ids=["dilation", "no batch axis"],
)
def test_what_cannot_be_transformed_says_why(layer, shape, reason):
    program = capture(layer, torch.randn(shape), dynamic=False)
    stages = program.run("select_convolution", convolution="fft")
    assert reason in remarks(stages, "declined", "choose")[0].reason
    assert not program.counts()[FFT]


def test_complex_tensors_stay_native():
    program = capture_function(lambda k, x: F.conv1d(x * 1j, k * 1j).real, [_double(4, 4, 5)], _double(2, 4, 16))
    stages = program.run("select_convolution", convolution="fft")
    assert "not a real floating-point tensor" in remarks(stages, "declined", "choose")[0].reason


def test_written_arguments_stay_native():
    def function(k, x):
        y = x + 1
        row = y[:, 0]
        result = F.conv1d(y, k)
        row.zero_()
        return result + y.mean()

    program = capture_function(function, [_double(4, 4, 5)], _double(2, 4, 16))
    stages = program.run("normalize", "select_convolution", convolution="fft")
    assert "writes to" in remarks(stages, "declined", "choose")[0].reason
    assert_unchanged(program, differentiate=False)  # autograd itself refuses this program


def test_an_unknown_mode_is_named():
    program = capture(nn.Conv1d(4, 4, 5), torch.randn(2, 4, 16))
    with pytest.raises(InvalidArgumentError, match="convolution='winograd' is unknown; choose one of auto"):
        program.run("select_convolution", convolution="winograd")


def test_costs_grow_with_the_kernel_and_fft_wins_in_the_end():
    def work(taps, static=True):
        pad = ((taps - 1) // 2, taps // 2)
        return Workload("cpu", 8, 64, 64, 64, (784,), (taps,), (pad,), (1,), static)

    native = [costs(work(taps))["native"] for taps in (3, 9, 15, 63, 255, 783)]
    assert native == sorted(native)
    assert [choose(costs(work(taps))) for taps in (3, 9)] == ["native", "native"]
    assert choose(costs(work(31))) != "native"
    assert choose(costs(work(783))) == "fft"
    assert costs(work(783, static=False))["fft"] > costs(work(783))["fft"]
