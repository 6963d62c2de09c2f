from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensor

import tzwc
from tests.support.gpu_models import Dots, Hyper
from tests.support.triton import needs_triton
from tzwc.cross_compile import TARGETS, LoweringError, Process, lower, process
from tzwc.errors import InvalidArgumentError


@needs_triton
@pytest.mark.parametrize("target", sorted(TARGETS))
def test_code_kernels_and_calls_for_every_target(target: str, compiler: Process, tmp_path: Path) -> None:
    model = Hyper().eval()
    with torch.no_grad():
        program = lower(model, torch.rand(4, 6, 16), target=target, process=compiler)
    assert [module.name for module in program.modules] == ["inference"]
    assert program.kept  # the slow network runs once, not at every call
    assert not any("slow" in origin.module_path for launch in program.launches for origin in launch.origins)
    used = {launch.kernel for launch in program.launches if launch.kind == "triton"}
    assert used == {kernel.name for kernel in program.kernels}
    for kernel in program.kernels:
        assert kernel.registers
        assert kernel.spilled == 0
        assert kernel.assembly is not None
        assert (".target sm_" if target.startswith("cuda") else "gfx942") in kernel.assembly
        assert kernel.binary is not None
        assert kernel.binary.startswith(b"\x7fELF")
    product = next(launch for launch in program.extern_calls if launch.kernel.endswith("mm"))
    assert product.flops == 2 * 4 * 6 * 16 * 3
    assert "head" in {origin.module_path for origin in product.origins}
    assert all(launch.bytes > 0 for launch in program.launches)
    written = program.write(tmp_path / "out")
    assert all(path.stat().st_size for path in written)
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["target"] == target
    assert len(report["kernels"]) == len(program.kernels)


@needs_triton
def test_forward_and_backward_are_generated_for_training(compiler: Process) -> None:
    program = lower(Hyper(), torch.rand(4, 6, 16), binaries=False, process=compiler)
    assert [module.name for module in program.modules] == ["forward", "backward"]
    assert all(kernel.binary is None for kernel in program.kernels)
    assert any("slow" in o.module_path for launch in program.modules[0].launches for o in launch.origins)


@needs_triton
def test_plain_is_what_torch_compile_lowers(compiler: Process) -> None:
    with torch.no_grad():
        program = lower(Hyper(), torch.rand(4, 6, 16), plain=True, binaries=False, process=compiler)
    assert not program.kept
    assert not program.remarks
    transforms = [launch for launch in program.extern_calls if "fft" in launch.kernel]
    assert len(transforms) == 3
    assert transforms[0].flops > 0


class Standardised(torch.nn.Module):
    """The product of both inputs, for each row of each sample without mean and with unit variance."""

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.instance_norm(x * y).relu()


class HalfProduct(torch.nn.Module):
    """A product of the first half of a buffer that is computed whole."""

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        h = x.relu()
        return h, h[:2] @ y


@needs_triton
def test_every_buffer_counts_once_each_way(compiler: Process) -> None:
    once = 4 * 64 * 3 * 500
    with torch.no_grad():
        program = lower(Standardised(), *torch.rand(2, 64, 3, 500), binaries=False, process=compiler)
        assert [launch.bytes for launch in program.launches] == [3 * once]  # nothing is read where the result goes
        program = lower(Dots(), *torch.rand(2, 2, 3, 20, 20), binaries=False, process=compiler)
        product = lower(HalfProduct(), torch.rand(4, 8, 8), torch.rand(2, 8, 8), binaries=False, process=compiler)
    assert [launch.bytes for launch in product.extern_calls] == [3 * 4 * 2 * 8**2]
    # The results of the kernel for products, which is not Inductor's, are parts of one buffer.
    assert [launch.bytes for launch in program.launches][-1] == 4 * 4 * 2 * 3 * 20**2


@needs_triton
def test_nothing_of_it_leaks() -> None:
    assert not torch.cuda.is_available() or torch.version.cuda is not None
    assert not {"contiguous", "copy_"} & vars(FakeTensor).keys()


def test_without_triton_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(LoweringError, match=r"pip install 'tzwc\[triton\]'"):
        lower(Hyper(), torch.rand(4, 6, 16))


def test_wrong_arguments_are_named() -> None:
    x = torch.rand(4, 6, 16)
    with pytest.raises(InvalidArgumentError, match=r"target='cuda:12' is unknown: choose one of cuda:80, cuda:90"):
        lower(Hyper(), x, target="cuda:12")
    with pytest.raises(InvalidArgumentError, match="model="):
        lower(torch.relu, x)
    with pytest.raises(InvalidArgumentError, match="unknown option 'backend'"):
        lower(Hyper(), x, backend="eager")
    own = tzwc.passes.Pass("cse", "not the known one", lambda *_: None)
    with pytest.raises(InvalidArgumentError, match="module:NAME"):
        lower(Hyper(), x, passes=[own])


@needs_triton
def test_what_cannot_be_one_graph_is_refused() -> None:
    class Decides(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * 2 if float(x.sum()) > 0 else x

    with pytest.raises(LoweringError, match="Decides cannot be captured as one graph"):
        lower(Decides(), torch.ones(3))
