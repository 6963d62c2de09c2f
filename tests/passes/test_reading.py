"""What passes read off single nodes, of graphs that no capture makes as well."""

from __future__ import annotations

import operator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, fx
from torch._subclasses.fake_tensor import FakeTensorMode

from tests.support.fft_testing import PASSES, assert_close, capture_program, transforms
from tests.support.pass_testing import Program, capture, capture_function, double, remarks
from tzwc.ops import fft_convolution, hyperzzw_dot
from tzwc.passes import by_name
from tzwc.passes.fourier.fourier_calls import Declined, read_transform
from tzwc.passes.hyperzzw.merge_values import merge_values
from tzwc.passes.pointwise.linear_maps import read_pointwise
from tzwc.rewrite.pass_manager import PassContext

aten = torch.ops.aten


def _with_value(node: fx.Node, value: object) -> fx.Node:
    node.meta["val"] = value
    return node


def test_a_transform_of_something_unknown_is_declined() -> None:
    graph = fx.Graph()
    call = graph.call_function(aten.fft_rfft.default, (graph.placeholder("x"), 8))
    with pytest.raises(Declined, match=r"x, which .* transforms, is not a real floating-point tensor"):
        read_transform(call)


def test_the_operators_below_torch_fft_are_read() -> None:
    points, length = 24, 12

    def function(k: Tensor, x: Tensor) -> Tensor:
        padded = F.pad(x, (0, points - length)), F.pad(k, (0, points - 9))
        spectrum = torch._fft_r2c(padded[0], [2], 0, True) * torch._fft_r2c(padded[1], [1], 0, True)
        return torch._fft_c2r(spectrum, [2], 2, points)[..., :length]

    program = capture_program(function, double(3, 9), double(2, 3, length), dynamic=False)
    assert program.counts()["aten._fft_r2c.default"] == 2
    program.run(*PASSES, convolution="fft")
    assert not transforms(program)
    assert_close(program)


def test_whole_spectra_below_torch_fft_are_read() -> None:
    def function(k: Tensor, x: Tensor) -> Tensor:
        padded = F.pad(x, (0, 12)), F.pad(k, (0, 15))
        spectrum = torch._fft_r2c(padded[0], [2], 0, False) * torch._fft_r2c(padded[1], [1], 0, False)
        return torch.fft.ifft(spectrum).real[..., :12]

    program = capture_program(function, double(3, 9), double(2, 3, 12), dynamic=False)
    program.run(*PASSES, convolution="fft")
    assert not transforms(program)
    assert_close(program)


def test_a_spectrum_that_is_expanded_is_read() -> None:
    def function(k: Tensor, x: Tensor) -> Tensor:
        kernels = torch.fft.rfft(k, n=24).expand(2, 3, 13)
        return torch.fft.irfft(torch.fft.rfft(x, n=24) * kernels, n=24)[..., :12]

    program = capture_program(function, double(3, 9), double(2, 3, 12), dynamic=False)
    program.run("recognise_fft_convolution", convolution="fft")  # normalised, a product broadcasts by itself
    assert not transforms(program)
    assert_close(program)


@pytest.mark.parametrize("bounds", [(None, 20), (4, None), (None, None)])
def test_slices_without_bounds_are_read(bounds: tuple[int | None, int | None]) -> None:
    def function(k: Tensor, x: Tensor) -> Tensor:
        y = torch.fft.irfft(torch.fft.rfft(x, n=24) * torch.fft.rfft(k, n=24), n=24)
        return aten.slice.Tensor(y, -1, *bounds)

    program = capture_program(function, double(3, 9), double(2, 3, 12), dynamic=False)
    program.run(*PASSES, convolution="fft")
    assert not transforms(program)
    assert_close(program)


def test_of_two_inputs_the_one_for_all_samples_is_the_kernel() -> None:
    def function(k: Tensor, x: Tensor) -> Tensor:
        return torch.fft.irfft(torch.fft.rfft(x, n=32) * torch.fft.rfft(k, n=32), n=32)

    for swapped in (False, True):  # the kernel is the longer one
        tensors = double(3, 16), double(2, 3, 12)
        program = capture(
            Program(lambda a, b, s=swapped: function(b, a) if s else function(a, b), []),
            *(tensors[::-1] if swapped else tensors),
            dynamic=False,
        )
        program.run(*PASSES, convolution="fft")
        (call,) = (node for node in program.module.graph.nodes if node.target is fft_convolution)
        assert call.kwargs["kernel_size"] == (16,)
        assert_close(program)


@pytest.mark.parametrize("axis", [-2, -1])
def test_zeros_in_front_along_one_axis_of_two_are_read(axis: int) -> None:
    def function(k: Tensor, x: Tensor) -> Tensor:
        padded = torch.cat([torch.zeros_like(x), x], axis)
        return torch.fft.irfft2(torch.fft.rfft2(padded, s=(16, 16)) * torch.fft.rfft2(k, s=(16, 16)), s=(16, 16))

    program = capture_program(function, double(3, 5, 5), double(2, 3, 6, 6), dynamic=False)
    program.run(*PASSES, convolution="fft")
    assert not transforms(program)
    assert_close(program)


def test_a_call_without_a_value_is_left() -> None:
    graph = fx.Graph()
    x = _with_value(graph.placeholder("x"), FakeTensorMode().from_tensor(double(2, 3)))
    graph.output((graph.call_function(aten.contiguous.default, (x,)),))
    by_name("normalize").run(fx.GraphModule({}, graph), PassContext("test", {}, frozenset()))
    assert [node.target for node in graph.nodes if node.op == "call_function"] == [aten.contiguous.default]


def test_a_linear_map_to_a_single_output_is_none_over_channels() -> None:
    program = capture_function(lambda w, x: F.linear(x, w), [double(8)], double(3, 5, 8))
    calls = [node for node in program.module.graph.nodes if node.target is aten.linear.default]
    assert [read_pointwise(node) for node in calls] == [None]


def test_a_linear_map_to_no_channels_is_not_handled() -> None:
    program = capture_function(lambda w, x: F.linear(x, w), [double(0, 8)], double(3, 5, 8))
    (call,) = [node for node in program.module.graph.nodes if node.target is aten.linear.default]
    assert read_pointwise(call) == "its channels are not known at capture, or there are none"


def test_copies_regrouped_with_samples_are_no_repeated_channels() -> None:
    def function(w: Tensor, x: Tensor) -> Tensor:
        return F.conv1d(x.unsqueeze(1).expand(2, 5, 3, 4).reshape(6, 5, 4), w)

    program = capture_program(function, double(2, 5, 1), double(2, 3, 4), dynamic=False)
    stages = program.run("normalize", "compose_linear")
    assert not remarks(stages, "applied", "repeat")
    assert torch.equal(program.evaluate(*program.inputs)[0], program.model(*program.inputs))


def test_values_that_nobody_reads_are_merged_like_the_others() -> None:
    graph = fx.Graph()
    tensors = {name: double(2, 3, 4, 4) for name in ("z", "k", "u", "v", "w")}
    z, k, *values = (_with_value(graph.placeholder(name), value) for name, value in tensors.items())
    product = _with_value(graph.call_function(aten.mul.Tensor, (z, k)), tensors["z"] * tensors["k"])
    u, v, w = values
    results = []
    for taken, wanted in (((u, v), 1), ((w,), 0)):
        call = graph.call_function(hyperzzw_dot, (z, k, *taken), {"product": product})
        call.meta |= {"tzwc_made_by": "test", "val": tuple(tensors["z"] @ tensors[n.name] for n in taken)}
        got = graph.call_function(operator.getitem, (call, wanted))
        results.append(_with_value(got, call.meta["val"][wanted]))
    graph.output(tuple(results))
    expected = fx.GraphModule({}, graph)(*tensors.values())
    merge_values(graph, (hyperzzw_dot,), PassContext("test", {}, frozenset()))
    graph.lint()
    assert sum(node.target is hyperzzw_dot for node in graph.nodes) == 1
    found = fx.GraphModule({}, graph)(*tensors.values())
    assert all(map(torch.equal, found, expected))
