"""The dot-product kernel: its choice by the model, its cross-compilation; its numbers are in ``test_interpreted``."""

from __future__ import annotations

import pytest
import torch

from tests.gpu.conftest import needs_triton
from tests.gpu.gpu_models import Dots
from tzwc.gpu import Process, Program, lower

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
