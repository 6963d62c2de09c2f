"""``--device cuda``: what is said without one, and that everything it needs is passed on."""

from __future__ import annotations

import pytest
import torch
from typer.testing import CliRunner

from tzwc.bench.cache import Request as CacheRequest
from tzwc.bench.devices import DeviceError, check_device, clock_of, name_of, wait
from tzwc.bench.model import Request as ModelRequest
from tzwc.bench.model_contenders import choose
from tzwc.cli import app
from tzwc.errors import InvalidArgumentError
from tzwc.timing import interleave


@pytest.mark.parametrize("command", ["model", "cache"])
def test_without_a_gpu_it_says_what_is_missing(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for cuda, said in ((None, "was built without CUDA"), ("13.0", "finds no GPU")):
        monkeypatch.setattr(torch.version, "cuda", cuda)
        result = CliRunner().invoke(app, ["bench", command, "--device", "cuda"], env={"COLUMNS": "300"})
        assert result.exit_code == 1, result.output
        assert said in result.stderr
        assert "tzwc lower" in result.stderr


@pytest.mark.parametrize("request_of", [ModelRequest, CacheRequest])
def test_an_unknown_device_is_refused(request_of: type) -> None:
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
