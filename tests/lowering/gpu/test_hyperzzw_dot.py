"""The dot-product kernel: its choice by the model, its cross-compilation; its numbers are in ``test_interpreted``."""

from __future__ import annotations

import pytest
import torch

from tests.support.gpu_models import Dots, Long
from tests.support.triton import needs_triton
from tzwc.cross_compile import Process, Program, lower
from tzwc.cross_compile.worker.arithmetic import extern_bytes, transform_passes

pytestmark = needs_triton


def lowered(process: Process, target: str, *, size: int = 20, columns: int = 20, binaries: bool = False) -> Program:
    z, v = torch.rand(2, 3, size, size), torch.rand(2, 3, size, columns)
    with torch.no_grad():
        return lower(Dots(size=size), z, v, target=target, binaries=binaries, process=process)


@pytest.mark.parametrize("target", ["cuda:80", "cuda:90"])
def test_one_launch_for_three_values(target: str, compiler: Process) -> None:
    program = lowered(compiler, target, binaries=True)
    dots = [launch for launch in program.launches if launch.kernel.startswith("dot_kernel")]
    assert len(dots) == 1
    assert not [launch for launch in program.extern_calls if launch.kernel.endswith("bmm")]
    assert dots[0].flops == 3 * 2 * 2 * 3 * 20**3
    # Activations, hyper-kernel, three values and three results, in float32.
    assert dots[0].bytes == 4 * (2 + 1 + 3 * 2 + 3 * 2) * 3 * 20**2
    kernel = next(kernel for kernel in program.kernels if kernel.name == dots[0].kernel)
    assert kernel.spilled == 0
    assert kernel.assembly is not None
    assert "tf32" not in kernel.assembly  # float32 is multiplied as such


def test_a_library_is_kept_where_it_is_faster_by_the_model(compiler: Process) -> None:
    program = lowered(compiler, "cuda:90", size=1024, columns=1024)  # arithmetic decides
    assert not [launch for launch in program.launches if launch.kernel.startswith("dot_kernel")]
    assert len([launch for launch in program.extern_calls if launch.kernel.endswith("bmm")]) == 3


@pytest.mark.parametrize("padding", ["causal", "same"])
def test_gate_padding_and_epilogue_of_a_convolution_by_fft_are_two_kernels(padding: str, compiler: Process) -> None:
    """Inductor fuses them as they are: nothing of our own is needed around the transforms."""
    z, v = torch.rand(2, 2, 6, 64)
    with torch.no_grad():
        program = lower(Long(padding).eval(), z, v, convolution="fft", binaries=False, process=compiler)
    generated = [launch for launch in program.launches if launch.kind == "triton"]
    transforms = [launch for launch in program.extern_calls if "rfftn" in launch.kernel]
    assert len(transforms) == 3
    assert all(launch.launches == 1 for launch in transforms)  # nothing is padded by the library
    gate = next(launch for launch in generated if any(o.operator == "aten.mul.Tensor" for o in launch.origins))
    source = next(kernel.source for kernel in program.kernels if kernel.name == gate.kernel)
    assert "constant_pad_nd" in gate.kernel
    assert "mul" in gate.kernel
    assert source.count("tl.store(") == 1
    epilogue = generated[-1]
    assert {"aten.gelu.default", "aten.mul.Tensor"} <= {origin.operator for origin in epilogue.origins}
    assert len(generated) <= 3  # the values are padded by a kernel of their own where nothing computes them


def test_the_transform_counts_what_it_pads_itself() -> None:
    graph = torch.fx.Graph()
    x = graph.placeholder("x")
    x.meta["val"] = torch.empty(2, 3, 10)
    for size, launches in ((16, 3), (10, 1), (8, 1)):
        node = graph.call_function(torch.ops.tzwc.rfftn.default, (x, [size]))
        assert transform_passes(node) == launches
        values = [x.meta["val"], torch.empty(2, 3, size // 2 + 1, dtype=torch.complex64)]
        assert extern_bytes(node, values) == 240 + 8 * 6 * (size // 2 + 1) + (2 * 4 * 6 * 16 if size == 16 else 0)


def test_forward_mode_is_refused() -> None:
    """The operator drops tangents, which would count as zero without a word."""
    from tzwc.lowering.gpu.hyperzzw_dot_kernel import dot

    z, v = torch.rand(1, 2, 4, 4), torch.rand(1, 2, 4, 4)
    with pytest.raises(NotImplementedError, match=r"no forward-mode derivative: use tzwc\.ops\.hyperzzw_dot"):
        torch.func.jvp(lambda z: dot(z, None, [v], False), (z,), (z,))
