"""What runs in the processes of ``tzwc bench model``, in this one."""

from __future__ import annotations

import dataclasses
import gc
import json
import math
import resource
import subprocess
import sys
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tzwc.bench.model import memory, worker
from tzwc.bench.model.reference import Reference, arithmetic
from tzwc.bench.model.targets import LONG, Subject, batches_of
from tzwc.bench.model.worker import Runner, Task, Yardstick
from tzwc.models import terminator


def task(contender: str | None, folder: Path, training: bool = False) -> Task:
    return Task(contender, "digits", 2, training, "eager", 1, str(folder / "reference.pt"))


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("contender", ["eager", "tzwc+allocator"])
def test_calls_agree_with_float64(contender: str, training: bool, tmp_path: Path) -> None:
    yard = Yardstick(task(None, tmp_path, training)).first()
    runner = Runner(task(contender, tmp_path, training))
    first, again, measured = runner.first(), runner.again(), runner.measure(3)
    assert first["distances"].keys() == yard["allowed"].keys() == ({"all", "each"} if training else {"all"})
    for found in (first, again):
        for name, distance in found.get("distances", {}).items():
            assert 0 <= distance <= yard["allowed"][name]
    assert ("distances" in again) is not training  # the parameters have moved
    assert len(measured["seconds"]) == 3
    assert min(measured["seconds"]) > 0
    assert first["memory"] >= 0  # nothing more than before where the heap has room for all of it
    assert first["note"] == ("whole graph" if contender.startswith("tzwc") else "")
    assert yard["flops"] > yard["growing"] > 0


def test_memory_that_a_call_takes_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Large(nn.Module):
        def __init__(self, model: nn.Module) -> None:
            super().__init__()
            self.model = model

        def forward(self, x: Tensor) -> Tensor:
            assert torch.ones(25_000_000).sum() > 0  # 100 MB, which no allocator keeps at hand
            result: Tensor = self.model(x)
            return result

    monkeypatch.setattr("tzwc.api.compile", lambda model, **_: Large(model))
    runner = Runner(task("tzwc", tmp_path))
    assert 90e6 < runner.first()["memory"] < 200e6
    runner.again()
    assert 90e6 < runner.measure(2)["memory"] < 200e6


def test_what_inductor_needs_is_imported_before_anything_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    monkeypatch.setattr(worker, "preload", lambda: order.append("Inductor"))
    monkeypatch.setattr(worker, "restart_peak", lambda device: order.append(f"peak on {device}"))
    Runner(dataclasses.replace(task("eager", tmp_path), backend="inductor"))
    assert order == ["Inductor", "peak on cpu"]


def test_a_process_answers_until_its_standard_input_ends(tmp_path: Path) -> None:
    given = dataclasses.asdict(task("eager", tmp_path))
    requests: list[dict[str, Any]] = [
        {"do": "build", "task": {**given, "target": "nothing"}},
        {"do": "build", "task": given},
        {"do": "measure", "with": [2]},
        {"do": "first"},
        {"do": "measure", "with": [2]},
    ]
    command = [sys.executable, "-m", "tzwc.bench.model.worker"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        replies = []
        for request in requests:
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
            replies.append(json.loads(process.stdout.readline()))
        process.stdin.close()
        assert process.stdout.read() == ""
        assert process.wait(300) == 0
    assert replies[0]["error"].startswith("InvalidArgumentError: preset 'nothing' is unknown")
    assert replies[1] == {}
    assert replies[2]["error"].startswith("AssertionError")  # there was no first call
    assert replies[3]["distances"] == {}  # no reference lies there
    assert len(replies[4]["seconds"]) == 2


def test_a_wrong_result_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    yard = Yardstick(task(None, tmp_path)).first()

    class Wrong(nn.Module):
        def __init__(self, model: nn.Module) -> None:
            super().__init__()
            self.model = model

        def forward(self, x: Tensor) -> Tensor:
            result: Tensor = self.model(x)
            return result * 1.01

    monkeypatch.setattr("tzwc.api.compile", lambda model, **_: Wrong(model))
    assert Runner(task("tzwc", tmp_path)).first()["distances"]["all"] > yard["allowed"]["all"]


def test_without_a_reference_nothing_is_compared(tmp_path: Path) -> None:
    assert Runner(task("eager", tmp_path)).first()["distances"] == {}


def test_distances() -> None:
    exact = {"a": torch.tensor([3.0, 4.0]).double(), "b": torch.zeros(1).double(), "c": torch.ones(1).double()}
    reference = Reference(exact, {"all": 0.0, "each": 1e-3})
    found: dict[str, Tensor] = {"a": torch.tensor([3.0, 4.5]), "b": torch.zeros(1), "c": torch.ones(1)}
    assert reference.distances(found) == {"all": 0.5 / 26**0.5, "each": 0.0}
    assert reference.allowed == {"all": 4 * torch.finfo(torch.float32).eps, "each": 4e-3}
    wrong: list[dict[str, Any]] = [{"a": torch.ones(3)}, {"a": torch.full((2,), math.nan)}, {}]
    for other in wrong:
        missing = {name: tensor for name, tensor in {**found, **other}.items() if other or name != "a"}
        assert reference.distances(missing)["all"] == math.inf


def test_a_step_changes_parameters_and_hardly() -> None:
    subject = Subject("digits", 2, training=True)
    before = [p.detach().clone() for p in subject.model.parameters()]
    subject.call(subject.model)()
    after = [p.detach() for p in subject.model.parameters()]
    changed = sum(not torch.equal(*pair) for pair in zip(after, before, strict=True))
    assert changed > 0.8 * len(before)  # steps are lost in large frequencies, and Kar3 rests where a gradient is zero
    torch.testing.assert_close(after, before, atol=1e-5, rtol=0)


def test_arithmetic_of_a_product_and_of_a_depthwise_convolution(monkeypatch: pytest.MonkeyPatch) -> None:
    class Small(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.code = nn.Parameter(torch.randn(1, 5))
            self.write = nn.Linear(5, 4 * 3)
            self.head = nn.Linear(4, 10)

        def forward(self, x: Tensor) -> Tensor:
            y = torch.nn.functional.conv1d(x, self.write(self.code).view(4, 1, 3), padding=1, groups=4)
            result: Tensor = self.head(y.mean(-1))
            return result

    monkeypatch.setattr("tzwc.bench.model.targets.resolve", lambda _: Small())
    monkeypatch.setattr("tzwc.bench.model.targets.default_inputs", lambda _: [torch.empty(1, 4, 7)])
    write, convolve, head = 2 * 5 * 12, 2 * 4 * 7 * 3, 2 * 4 * 10
    found = arithmetic("small", 3, training=False)
    assert found.total == write + 3 * (convolve + head)
    assert found.growing == 3 * (convolve + head)
    # Two gradients of each product, one of the convolution: the input has none.
    assert arithmetic("small", 3, training=True).total == 3 * write + 3 * (2 * convolve + 3 * head)


def test_the_long_model() -> None:
    with torch.device("meta"):
        assert terminator("smnist", **LONG).spec.sizes == (16_384,)
    assert arithmetic("long", 1, training=False).growing > 13 * 16_384**2
    assert batches_of("long", "inference") == (1,)
    assert batches_of("cifar10", "inference") == (1, 16, 64)
    assert batches_of("digits", "training") == (16,)


def test_memory_is_what_was_touched() -> None:
    memory.give_back()
    memory.restart_peak()
    before = memory.peak()
    torch.ones(25_000_000)
    most = memory.peak() - before
    assert 90e6 < most < 150e6
    memory.give_back()
    memory.restart_peak()
    assert memory.peak() - before < 50e6


@pytest.mark.parametrize("text", ["Name:\tpython\n", None])
def test_memory_where_the_system_does_not_say_it_at_once(monkeypatch: pytest.MonkeyPatch, text: str | None) -> None:
    def read(_path: Path, encoding: str) -> str:
        assert encoding == "ascii"
        if text is None:
            raise FileNotFoundError("/proc is not there")
        return text

    monkeypatch.setattr(Path, "read_text", read)
    for platform, unit in (("linux", 1024), ("darwin", 1)):
        monkeypatch.setattr(sys, "platform", platform)
        least = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
        assert least <= memory.peak() <= resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def test_memory_of_a_gpu_is_what_tensors_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    held = [300]
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: held[0])
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda: held.__setitem__(0, 100))
    assert memory.peak("cuda") == 300
    memory.restart_peak("cpu")
    assert memory.peak("cuda") == 300
    memory.restart_peak("cuda")
    assert memory.peak("cuda") == 100


def test_garbage_is_given_back_without_glibc_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda _: object())
    cycle = nn.Module()
    cycle.__dict__["itself"], gone = cycle, weakref.ref(cycle)
    del cycle
    gc.disable()
    try:
        assert gone() is not None
        memory.give_back()
        assert gone() is None
    finally:
        gc.enable()
