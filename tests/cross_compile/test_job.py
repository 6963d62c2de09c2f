"""Models as jobs for another process, and that process: what is refused, and what is said when it dies."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn

from tests.support.triton import needs_triton
from tzwc.cross_compile import TARGETS, LoweringError, Process
from tzwc.cross_compile import process as processes
from tzwc.cross_compile.job import CapturedModel, checked
from tzwc.cross_compile.worker.device_functions import DeviceFunctions
from tzwc.cross_compile.worker.interpreter import kernel_sources
from tzwc.errors import InvalidArgumentError, TzwcError
from tzwc.inspection import graph_to_dict
from tzwc.passes import by_name


def test_models_on_another_device_are_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="a tensor of the model or its inputs is on meta: move all to cpu"):
        CapturedModel.of(nn.Linear(2, 2, device="meta"), [torch.ones(1, 2)], train=False)


class _Settles(nn.Module):
    """Has its scale from the first call on."""

    def __init__(self) -> None:
        super().__init__()
        self.scale: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.scale is None:
            self.scale = x.new_ones(2) * 3
        return x * self.scale


def test_a_model_that_initialises_itself_is_captured() -> None:
    x = torch.ones(1, 2)
    captured = CapturedModel.of(_Settles(), [x], train=False)
    assert captured.model == "_Settles"
    slots = [slot.fetch() for slot in captured.capture.slots]
    assert torch.equal(captured.capture.module(*slots, x)[0], x * 3)


def test_passes_are_given_by_name_or_as_those_of_the_library() -> None:
    names, settings = checked([by_name("cse"), "normalize"], {"exact": True})
    assert names == ["cse", "normalize"]
    assert settings["exact"] is True


def test_a_function_that_the_interpreter_lacks_is_named() -> None:
    with pytest.raises(AttributeError, match=r"libdevice.nonesuch has no counterpart for the interpreter: add it to"):
        DeviceFunctions().nonesuch  # noqa: B018


@needs_triton
@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("import sys; sys.exit('MemoryError: too much')", "has died: MemoryError: too much"),
        ("import sys; sys.stdin.readline(); sys.exit(3)", "has died: exit code 3"),
    ],
    ids=["before the job", "during the job"],
)
def test_a_process_that_dies_says_why(
    script: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = subprocess.Popen
    command = [sys.executable, "-S", "-c", script]

    def popen(_: Any, **keywords: Any) -> Any:
        return start(command, **keywords)

    monkeypatch.setattr(processes.subprocess, "Popen", popen)
    with Process("lower") as process:
        if "readline" not in script:
            process._process.wait()
        with pytest.raises(LoweringError, match=message):
            process.ask(tmp_path)


def test_kernels_of_two_modules_with_one_name_are_told_apart() -> None:
    worker = pytest.importorskip("tzwc.cross_compile.worker.__main__")
    code = "triton_a = async_compile.triton('triton_a', '''\nforward\n''', device_str='cuda')\n"
    (name,) = kernel_sources(code)
    known = {name: kernel_sources(code)[name]}
    same = {"name": "backward", "code": code, "launches": [{"kernel": name}]}
    assert worker._named_apart(same, known) == known
    other = {
        "name": "backward",
        "code": code.replace("forward", "other"),
        "launches": [{"kernel": name}, {"kernel": "b"}],
    }
    assert list(worker._named_apart(other, known)) == [f"backward_{name}"]
    assert other["launches"] == [{"kernel": f"backward_{name}"}, {"kernel": "b"}]


@needs_triton
def test_origins_are_calls_of_the_program() -> None:
    from tzwc.cross_compile.worker.records import Recorder

    graph = fx.Graph()
    x = graph.placeholder("x")
    call = graph.call_function(torch.ops.aten.sin.default, (x,))
    (found,) = Recorder({"x": x, "sin": call}, lambda *_: list).origins([x, call])
    assert (found["node"], found["operator"]) == (call.name, "aten.sin.default")


@needs_triton
def test_an_input_that_is_no_dense_tensor_cannot_be_lowered() -> None:
    from tzwc.cross_compile.worker.rebuild import new_mode, rebuild

    graph = fx.Graph()
    x = graph.placeholder("x")
    x.meta["val"] = torch.eye(3).to_sparse()
    graph.output((x,))
    job = {"graph": graph_to_dict(graph, fx.GraphModule({}, graph))}
    with pytest.raises(TzwcError, match="only dense tensors of known sizes can be lowered"):
        rebuild(job, new_mode(), TARGETS["cuda:90"])
