"""Convolutions for which nothing is chosen, and why."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import fx, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from tests.support.pass_testing import Program, assert_unchanged, capture, capture_function, double, remarks
from tzwc.errors import InvalidArgumentError
from tzwc.ops import hyperzzw_convolution
from tzwc.passes import by_name
from tzwc.rewrite.pass_manager import PassContext

PREPARED = "conv.operator.prepared_convolution"


def test_one_kernel_a_sample_with_a_bias_is_left():
    def function(k, x):
        rows = x.reshape(1, -1, 12)
        bias = x.mean(-1).reshape(-1)
        return F.conv1d(rows, torch.tanh(x + k).reshape(-1, 1, 12), bias, padding=6, groups=rows.shape[1])

    program = capture_function(function, [double(1, 2, 12)], double(3, 2, 12))
    (remark,) = remarks(program.run("normalize", "select_convolution", convolution="fft"), "declined", "choose")
    assert remark.reason == "native, since there is a bias for every sample"
    assert_unchanged(program)


@pytest.mark.parametrize(
    ("function", "shape", "reason"),
    [
        (lambda k, x: torch.convolution(x, k, None, [1], [0], [1], True, [0], 1), (2, 4, 32), "transposed"),
        (lambda k, x: F.conv1d(x, k), (4, 32), "no batch axis"),
    ],
    ids=["transposed", "no batch axis"],
)
def test_what_cannot_be_chosen_says_why(function, shape, reason):
    program = capture(Program(function, [double(4, 4, 5)]), double(*shape), dynamic=False)
    stages = program.run("select_convolution", convolution="fft")
    assert reason in remarks(stages, "declined", "choose")[0].reason
    assert not program.counts()[PREPARED]


def test_a_kernel_whose_size_is_open_stays_native():
    program = capture_function(lambda k, x: F.conv1d(x, k.T[None]), [], double(5, 4), double(2, 4, 16))
    (remark,) = remarks(program.run("select_convolution", convolution="fft"), "declined", "choose")
    assert remark.reason == "native, since the kernel's size is not known at capture"
    assert_unchanged(program)
    assert_unchanged(program, double(7, 4), double(3, 4, 16))


def test_an_algorithm_that_is_not_legal_says_why():
    program = capture(nn.Conv1d(4, 4, 5, padding=2).double(), double(2, 4, 16))
    (remark,) = remarks(program.run("select_convolution", convolution="fft", exact=True), "declined", "choose")
    assert remark.numbers["choice"] == "native"
    assert "fft was asked for, but" in remark.reason
    assert set(program.counts()) == {"aten.conv1d.default"}


def test_results_that_are_handed_on_together_stay():
    """No pass of the library leaves a call like this, but a graph may have it."""
    graph = fx.Graph()
    with FakeTensorMode():
        z, k, v = (graph.placeholder(name) for name in "zkv")
        for node, shape in ((z, (2, 3, 5)), (k, (1, 3, 5)), (v, (2, 3, 9))):
            node.meta["val"] = torch.empty(shape, dtype=torch.float64)
        call = graph.call_function(hyperzzw_convolution, (z, k, v), {"padding": ((2, 2),), "reverse": False})
        call.meta["val"] = (torch.empty(2, 3, 9, dtype=torch.float64),)
    graph.output(call)
    context = PassContext("test", {"convolution": "fft"}, frozenset())
    by_name("select_convolution").run(fx.GraphModule({}, graph), context)
    assert [n.target for n in graph.nodes if n.op == "call_function"] == [hyperzzw_convolution]
    assert not context.remarks


def test_complex_tensors_stay_native():
    program = capture_function(lambda k, x: F.conv1d(x * 1j, k * 1j).real, [double(4, 4, 5)], double(2, 4, 16))
    stages = program.run("select_convolution", convolution="fft")
    assert "not a real floating-point tensor" in remarks(stages, "declined", "choose")[0].reason


def test_written_arguments_stay_native():
    def function(k, x):
        y = x + 1
        row = y[:, 0]
        result = F.conv1d(y, k)
        row.zero_()
        return result + y.mean()

    program = capture_function(function, [double(4, 4, 5)], double(2, 4, 16))
    stages = program.run("normalize", "select_convolution", convolution="fft")
    assert "writes to" in remarks(stages, "declined", "choose")[0].reason
    assert_unchanged(program, differentiate=False)  # autograd itself refuses this program


def test_an_unknown_mode_is_named():
    program = capture(nn.Conv1d(4, 4, 5), torch.randn(2, 4, 16))
    with pytest.raises(InvalidArgumentError, match="convolution='winograd' is unknown; choose one of auto"):
        program.run("select_convolution", convolution="winograd")


def test_groups_of_several_channels_for_each_sample_are_left():
    """One image of all samples, as for kernels of the input, but not depthwise: the number of groups stays open."""

    def function(k, x):
        weight = (k * x.mean((1, 2))[:, None, None, None]).reshape(-1, 2, 5)
        return F.conv1d(x.reshape(1, -1, 32), weight, padding=2, groups=x.shape[0]).reshape(-1, 2, 32)

    program = capture_function(function, [double(1, 2, 2, 5)], double(3, 2, 32))
    stages = program.run("select_convolution", convolution="fft")
    assert any("number of groups" in r.reason for r in remarks(stages, "declined", "choose"))
    assert_unchanged(program)
    assert_unchanged(program, double(4, 2, 32))
