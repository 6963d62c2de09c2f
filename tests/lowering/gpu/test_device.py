"""On a real GPU: ``pytest -m gpu``. Everything here is skipped where there is none."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

import tzwc
from tests.support.gpu_models import Branches, Dots, Hyper, small

pytestmark = pytest.mark.gpu

# Float32 on the device adds up in another order: 64 roundings of the largest value.
_ROUNDINGS = 64 * torch.finfo(torch.float32).eps


@pytest.fixture(autouse=True)
def _convolutions_in_float32() -> Iterator[None]:
    """cuDNN rounds float32 to ten bits unless told not to, and eager mode then differs from itself."""
    allowed = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32 = allowed


def near(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=_ROUNDINGS * max(1.0, expected.abs().max().item()))


@pytest.mark.parametrize("preset", ["cifar10", "smnist"])
def test_forward_and_backward(preset: str) -> None:
    torch.manual_seed(0)
    model = small(preset).cuda().eval()
    x = torch.randn(3, 2, *model.spec.sizes, device="cuda")
    fast = tzwc.compile(model)
    with torch.no_grad():
        near(fast(x), model(x))
    expected = torch.autograd.grad(model(x).square().sum(), [*model.parameters()], allow_unused=True)
    found = torch.autograd.grad(fast(x).square().sum(), [*model.parameters()], allow_unused=True)
    for a, b in zip(found, expected, strict=True):
        assert (a is None) == (b is None)
        if a is not None and b is not None:
            near(a, b)


def test_merged_maps() -> None:
    torch.manual_seed(0)
    model = Branches().cuda().eval()
    x = torch.randn(2, 4, 5, 5, device="cuda")
    fast = tzwc.compile(model)
    with torch.no_grad():
        near(fast(x), model(x))
    applied = {r.rule for r in fast.stage("merge_parallel").remarks if r.kind == "applied"}
    assert applied == {"batch", "shared", "sum"}


@pytest.mark.parametrize("taps", [31, 511])
def test_the_choice_of_a_convolution_is_measured_on_the_device(taps: int) -> None:
    torch.manual_seed(0)
    model = nn.Conv1d(16, 16, taps, groups=16, padding=taps // 2).cuda().eval()
    x = torch.randn(4, 16, 512, device="cuda")
    fast = tzwc.compile(model, tune="measure")
    with torch.no_grad():
        near(fast(x), model(x))
    said = [r for r in fast.stage("select_convolution").remarks if r.rule == "choose"]
    assert [r.numbers["source"] for r in said] == ["measured"]


def test_kept_values_are_renewed_across_streams() -> None:
    model = Hyper().cuda().eval()
    fast = tzwc.compile(model)
    x = torch.randn(4, 6, 16, device="cuda")
    other = torch.cuda.Stream()
    with torch.no_grad():
        fast(x)
        other.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(other):
            model.slow[0].weight.mul_(2)
            near(fast(x), model(x))
        torch.cuda.current_stream().wait_stream(other)
        near(fast(x), model(x))


def test_kept_values_stay_where_they_are_under_a_cuda_graph() -> None:
    model = Hyper().cuda().eval()
    fast = tzwc.compile(model)
    x = torch.randn(4, 6, 16, device="cuda")
    with torch.no_grad():
        fast(x)
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            captured = fast(x)
        for _ in range(3):
            x.normal_()
            graph.replay()
            near(captured, model(x))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_dot_kernel(dtype: torch.dtype) -> None:
    from tzwc.lowering.gpu.hyperzzw_dot_kernel import dot

    torch.manual_seed(0)
    z, *values = torch.randn(4, 2, 3, 40, 40, device="cuda", dtype=dtype).unbind(0)
    kernel = torch.randn(1, 3, 40, 40, device="cuda", dtype=dtype).expand(z.shape)
    operands = [z, *values]
    for operand in operands:
        operand.requires_grad_()
    found = dot(z, kernel, values, False)
    expected = torch.stack([(z * kernel).float() @ value.float() for value in values]).to(dtype)
    tolerance = 64 * torch.finfo(dtype).eps * expected.abs().max().item()
    torch.testing.assert_close(found, expected, rtol=0, atol=tolerance)
    for a, b in zip(
        torch.autograd.grad(found.sum(), operands), torch.autograd.grad(expected.sum(), operands), strict=True
    ):
        torch.testing.assert_close(a, b, rtol=0, atol=64 * torch.finfo(dtype).eps * b.abs().max().item())


def test_a_whole_model_with_the_kernel() -> None:
    model: nn.Module = Dots().cuda()
    z, v = torch.randn(2, 2, 3, 20, 20, device="cuda")
    fast = tzwc.compile(copy.deepcopy(model))
    with torch.no_grad():
        near(fast(z, v), model(z, v))
