from __future__ import annotations

import pytest

from tzwc.errors import InvalidArgumentError
from tzwc.gpu import TARGETS, Launch, Module, Program, Target
from tzwc.gpu.comparison import Comparison
from tzwc.gpu.cost import LAUNCH_SECONDS, modelled
from tzwc.gpu.worker.arithmetic import kernel_operations

H100 = TARGETS["cuda:90"]


def step(kernel: str, nbytes: int, flops: int = 0, *, kind: str = "triton", launches: int = 1) -> Launch:
    return Launch(kernel, kind, nbytes, flops, launches, "float32", ())


def program(*launches: Launch, target: Target = H100) -> Program:
    return Program("M", target, (Module("inference", "", launches),), (), (), ())


def test_memory_or_arithmetic_whichever_is_slower() -> None:
    cost = modelled([step("a", 3_350_000), step("a", 0, 67_000_000), step("fft", 6_700_000, 1, launches=2)], H100)
    assert cost.kernels == 2
    assert cost.launches == 4
    assert cost.seconds == pytest.approx(4 * LAUNCH_SECONDS + 1e-6 + 1e-6 + 2e-6)


def test_tensor_cores_are_for_products_that_may_round() -> None:
    product = step("extern_kernels.mm", 0, 494_000_000, kind="extern")
    assert modelled([product], H100, tf32=True).seconds == pytest.approx(LAUNCH_SECONDS + 1e-6)
    assert modelled([product], H100).seconds == pytest.approx(LAUNCH_SECONDS + 494 / 67 * 1e-6)
    other = step("torch.ops.aten._fft_r2c.default", 0, 494_000_000, kind="extern")
    assert modelled([other], H100, tf32=True).seconds == modelled([other], H100).seconds


def test_ratios_and_targets() -> None:
    plain, own = program(step("a", 100), step("b", 100)), program(step("a", 50))
    compared = Comparison.of(plain, own)
    assert compared.ratios["launches"] == 0.5
    assert compared.ratios["bytes"] == 0.25
    assert compared.to_dict()["measured"] is False
    with pytest.raises(InvalidArgumentError, match="lower both for the same target"):
        Comparison.of(plain, program(target=TARGETS["cuda:80"]))


def test_operations_of_a_kernel_are_read_off_its_source() -> None:
    source = """
@triton.jit
def kernel(in_ptr0, out_ptr0, xnumel, XBLOCK: tl.constexpr):
    xindex = tl.program_id(0) * XBLOCK + tl.arange(0, XBLOCK)
    tmp0 = tl.load(in_ptr0 + xindex)
    tmp1 = tmp0 * tmp0
    tmp2 = libdevice.erf(tmp1)
    tmp3 = tmp2 < tmp1
    tmp4 = tl.where(tmp3, tmp1, tmp2)
    tmp5 = tl.sum(tmp4, 1)[:, None].to(tl.float32)
    tl.store(out_ptr0 + xindex, tmp4)
"""
    assert kernel_operations(source) == 3
