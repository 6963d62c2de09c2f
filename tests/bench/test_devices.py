"""``--device cuda``: what is said without one, and that everything it needs is passed on."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from typer.testing import CliRunner

from tests.support.training_toy import SPEC
from tzwc.bench.cache.cache import Request as CacheRequest
from tzwc.bench.capture.capture import Request as CaptureRequest
from tzwc.bench.capture.capture import _moved
from tzwc.bench.capture.capture import run as run_capture
from tzwc.bench.devices import DeviceError, check_device, clock_of, name_of, wait
from tzwc.bench.model.contenders import choose
from tzwc.bench.model.run import Request as ModelRequest
from tzwc.bench.train.run import Request as TrainRequest
from tzwc.bench.train.run import run as run_train
from tzwc.cli.main import app
from tzwc.data import load
from tzwc.errors import InvalidArgumentError
from tzwc.util.timing import interleave


@pytest.mark.parametrize("command", ["model", "cache", "capture", "train"])
def test_without_a_gpu_it_says_what_is_missing(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for cuda, said in ((None, "was built without CUDA"), ("13.0", "finds no GPU")):
        monkeypatch.setattr(torch.version, "cuda", cuda)
        result = CliRunner().invoke(app, ["bench", command, "--device", "cuda"], env={"COLUMNS": "300"})
        assert result.exit_code == 1, result.output
        assert said in result.stderr
        assert "tzwc lower" in result.stderr


@pytest.mark.parametrize(
    "request_of", [ModelRequest, CacheRequest, CaptureRequest, functools.partial(TrainRequest, ("digits",))]
)
def test_an_unknown_device_is_refused(request_of: Callable[..., object]) -> None:
    with pytest.raises(InvalidArgumentError, match="device 'tpu' is unknown: choose from cpu, cuda"):
        request_of(device="tpu")


def test_on_a_gpu_the_allocator_of_the_cpu_is_no_contender(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    check_device("cuda")
    assert not any(name.endswith("+allocator") for name in choose(None, "inductor", "cuda"))
    assert any(name.endswith("+allocator") for name in choose(None, "inductor", "cpu"))
    with pytest.raises(InvalidArgumentError, match="leave it out on 'cuda'"):
        ModelRequest(device="cuda", contenders=("eager+allocator",))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(DeviceError, match="cannot be used"):
        ModelRequest(device="cuda")


def test_a_clock_of_its_own_tells_the_time() -> None:
    asked = []

    def clock(call: object, times: int) -> float:
        asked.append((call, times))
        return 0.01

    def contender() -> None:
        raise AssertionError("the clock calls it")

    (timing,) = interleave({"it": contender}, rounds=3, shortest=0.02, clock=clock)
    assert timing.seconds == (0.01, 0.01, 0.01)
    assert asked[-3:] == [(contender, 2)] * 3
    assert clock_of("cpu") is None
    assert name_of("cpu") == "cpu"


@pytest.mark.parametrize("command", ["capture", "train"])
def test_steps_and_calls_are_timed_by_the_clock_of_the_device(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a clock of its own for the CPU, in place of events in a stream that is not there."""
    asked = []

    def clock(call: Callable[[], object], times: int) -> float:
        asked.append(times)
        call()
        return 0.5

    module = {"capture": "capture.capture", "train": "train.run"}[command]
    monkeypatch.setattr(f"tzwc.bench.{module}.clock_of", lambda _: clock)
    if command == "train":
        small = dataclasses.replace(SPEC, sizes=(8, 8), classes=10, dropout=0.0)
        monkeypatch.setattr("tzwc.bench.train.run._work", lambda name: (load(name), small))
        (contender,) = run_train(TrainRequest(("digits",), ("eager",), "eager", rounds=2)).found["digits"]
        assert contender.timing.seconds == (0.5, 0.5)
        assert asked == [1, 1]
    else:
        monkeypatch.setattr("tzwc.bench.capture.capture.lazy_terminator", lambda _: nn.Flatten())
        (cell,) = run_capture(CaptureRequest("digits", (2,), "eager", ("eager",), rounds=2)).cells
        assert cell.contenders[0].timing is not None
        assert cell.contenders[0].timing.seconds == (0.5, 0.5)


def test_parameters_in_plain_lists_move_with_the_model() -> None:
    class Lists(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.between = [nn.Parameter(torch.zeros(1)), 3]

    model = _moved(Lists(), "meta")
    (parameter, number) = model.between
    assert isinstance(parameter, Tensor)
    assert (parameter.device.type, number) == ("meta", 3)


@pytest.mark.gpu
@pytest.mark.parametrize("command", ["capture", "train"])
def test_capture_and_training_on_a_gpu(command: str) -> None:
    if command == "train":
        bench = run_train(TrainRequest(("digits",), ("eager", "tzwc"), "eager", rounds=2, device="cuda"))
        assert all(c.timing.median > 0 and c.gap < 1e-2 for c in bench.found["digits"])
        assert bench.to_dict()["device"] == name_of("cuda")
        return
    (cell,) = run_capture(CaptureRequest("digits", (2,), "eager", ("eager", "tzwc"), rounds=2, device="cuda")).cells
    for contender in cell.contenders:
        assert not contender.error
        # Kernels carry the rounding of arguments of 1e5, 1e-3 of their peak.
        assert contender.deviation < 1e-2


def test_only_a_gpu_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[str] = []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: waited.append("cuda"))
    wait("cpu")
    assert waited == []
    wait("cuda")
    assert waited == ["cuda"]


@pytest.mark.gpu
def test_events_tell_the_time_of_a_gpu() -> None:
    x = torch.randn(2048, 2048, device="cuda")
    clock = clock_of("cuda")
    assert clock is not None
    assert 1e-6 < clock(lambda: x @ x, 3) < 10
    assert name_of("cuda") != "cuda"
