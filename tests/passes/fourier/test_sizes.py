"""Convolutions by transforms whose sizes are open, or of tensors that the CPU does not transform."""

from __future__ import annotations

import pytest
import torch
import torch.fft as tf
from torch import fx
from torch._subclasses.fake_tensor import FakeTensorMode

from tests.support.fft_testing import PASSES, assert_close, capture_program, transforms
from tests.support.pass_testing import capture_function, double, remarks
from tzwc.passes import by_name
from tzwc.rewrite.pass_manager import PassContext

aten = torch.ops.aten
B, C, L, K = 2, 3, 12, 9
N = 2 * L


def test_length_that_is_open():
    def function(k, x):
        n = 2 * x.shape[-1]
        return tf.irfft(tf.rfft(x, n=n) * tf.rfft(k, n=n), n=n)[..., : x.shape[-1]]

    program = capture_program(lambda k, x: function(k, x.T), double(K), double(L, 3), dynamic=True)
    stages = program.run(*PASSES)
    if transforms(program):
        assert "not known at capture" in remarks(stages, "declined", "convolution")[0].reason
    x = double(L, 3)
    torch.testing.assert_close(program.evaluate(x)[0], program.model(x))


def _lengths_of(reader):
    """``reader`` called with kernel and input, whose length is open."""
    return capture_program(lambda k, x: reader(k, x.T), double(K), double(L, 3), dynamic=True)


def test_signals_whose_length_is_open_are_left():
    program = _lengths_of(lambda k, x: tf.irfft(tf.rfft(x, n=N) * tf.rfft(k, n=N), n=N)[..., :L])
    (remark,) = remarks(program.run(*PASSES, convolution="fft"), "declined", "convolution")
    assert remark.reason.startswith("the sizes [")
    assert remark.reason.endswith("are not known at capture")
    x = double(L + 2, 3)
    assert torch.equal(program.evaluate(x)[0], program.model(x))


def test_as_many_points_as_an_open_length_are_left():
    program = _lengths_of(lambda k, x: tf.irfft(tf.rfft(x) * tf.rfft(k, n=x.shape[-1]), n=x.shape[-1]))
    (remark,) = remarks(program.run(*PASSES, convolution="fft"), "declined", "convolution")
    assert "not known at capture" in remark.reason
    x = double(L + 2, 3)
    assert torch.equal(program.evaluate(x)[0], program.model(x))


def test_a_convolution_with_two_open_sizes_is_left():
    def function(k, x):
        return tf.irfft(tf.rfft(x, n=N)[:, None] * tf.rfft(k, n=N), n=N)[..., :L]

    program = capture_function(function, [], double(4, K), double(B, L))
    (remark,) = remarks(program.run(*PASSES, convolution="fft"), "declined", "convolution")
    assert "2 sizes of fft_irfft are not known at capture" in remark.reason
    tensors = double(5, K), double(B + 1, L)
    assert torch.equal(program.evaluate(*tensors)[0], program.model(*tensors))


def test_channels_summed_with_one_kernel_for_each_sample_are_left():
    def function(k, x):
        taps = k * x.mean((1, 2))[:, None, None, None]
        return tf.irfft(torch.einsum("bil,boil->bol", tf.rfft(x, n=N), tf.rfft(taps, n=N)), n=N)[..., :L]

    program = capture_program(function, double(4, C, K), double(B, C, L), dynamic=True)
    (remark,) = remarks(program.run(*PASSES, convolution="fft"), "declined", "convolution")
    assert remark.reason == "channels are summed with one kernel for each sample"
    x = double(B + 1, C, L)
    torch.testing.assert_close(program.evaluate(x)[0], program.model(x), rtol=0, atol=0)


def _node(node, *shape, dtype):
    node.meta["val"] = torch.empty(shape, dtype=dtype)
    return node


@pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental:UserWarning")
@pytest.mark.parametrize(
    ("samples", "dtype", "reason"),
    [(B, torch.float16, "x is not float32 or float64"), (0, torch.float32, "x is empty")],
    ids=["half precision", "no samples"],
)
def test_transforms_that_a_cpu_may_not_have_are_left(samples, dtype, reason):
    graph = fx.Graph()
    with FakeTensorMode():
        x, k = (_node(graph.placeholder(n), *s, dtype=dtype) for n, s in (("x", (samples, C, L)), ("k", (C, K))))
        a = _node(graph.call_function(aten.fft_rfft.default, (x, N)), samples, C, N // 2 + 1, dtype=dtype.to_complex())
        b = _node(graph.call_function(aten.fft_rfft.default, (k, N)), C, N // 2 + 1, dtype=dtype.to_complex())
        product = graph.call_function(aten.mul.Tensor, (a, b))
        _node(product, samples, C, N // 2 + 1, dtype=dtype.to_complex())
        result = _node(graph.call_function(aten.fft_irfft.default, (product, N)), samples, C, N, dtype=dtype)
    graph.output((result,))
    context = PassContext("test", {}, frozenset())
    by_name("recognise_fft_convolution").run(fx.GraphModule({}, graph), context)
    assert [remark.reason for remark in context.remarks] == [reason]
    assert result in graph.nodes


def test_a_result_that_is_cut_out_is_contiguous_where_a_view_counts_on_it():
    def function(k, x):  # 17 values: 18 points are quicker, and cut
        return tf.irfft(tf.rfft(x, n=17) * tf.rfft(k, n=17), n=17).view(B, C * 17)

    program = capture_program(function, double(C, 6), double(B, C, L), dynamic=False)
    program.run("recognise_fft_convolution", convolution="fft")  # alone: normalize would make a reshape of the view
    assert not transforms(program)
    assert_close(program)
