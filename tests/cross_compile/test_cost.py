from __future__ import annotations

import io
import math

import pytest
import torch
from rich.console import Console
from torch import fx

from tzwc.cross_compile import TARGETS, Launch, Module, Program, Target
from tzwc.cross_compile.compare import Comparison
from tzwc.cross_compile.cost import modelled
from tzwc.cross_compile.tables import show_comparison
from tzwc.cross_compile.worker.arithmetic import extern_bytes, extern_flops, kernel_operations
from tzwc.errors import InvalidArgumentError
from tzwc.lowering.gpu.target import LAUNCH_SECONDS

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


def test_operations_of_a_complex_transform() -> None:
    """Twice those of as many real points; nothing is known of a call without a node."""
    spectrum = torch.zeros(4, 16, dtype=torch.complex64)
    graph = fx.Graph()
    call = graph.call_function(torch.ops.aten._fft_c2c.default, (graph.placeholder("x"), [1], 0, True))
    assert extern_flops(call, [spectrum, spectrum]) == 5 * 64 * math.log2(16)
    assert extern_bytes(call, [spectrum, spectrum]) == 2 * 64 * 8
    assert extern_flops(None, [spectrum]) == extern_bytes(None, [spectrum]) == 0


@pytest.mark.parametrize("labels", [(), ("here",)])
def test_a_table_of_comparisons(labels: tuple[str, ...]) -> None:
    compared = Comparison.of(program(step("a", 1000), step("b", 1000)), program(step("a", 500)))
    text = io.StringIO()
    show_comparison([compared], Console(file=text, width=160, color_system=None), labels)
    plain, own, ratios = (line.split() for line in text.getvalue().splitlines()[1:4])
    assert plain[:4] == ["here" if labels else "M", "torch.compile", "2", "2"]
    assert own[:3] == ["tzwc", "1", "1"]
    assert ratios == ["ratio", "0.50", "0.25", "0.50"]
    assert "nothing here was measured on a GPU" in text.getvalue()
    empty = io.StringIO()
    show_comparison([], Console(file=empty, width=160, color_system=None))
    assert "torch.compile" not in empty.getvalue()
