"""A backend that fails: the answer is right, and the level, the remarks and one warning say so."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import fx, nn

import tzwc
from tzwc.lowering import backend as lowering


def broken(_: fx.GraphModule, __: Sequence[Any]) -> Callable[..., Any]:
    raise MemoryError("none left")


def late(_: fx.GraphModule, __: Sequence[Any]) -> Callable[..., Any]:
    def run(*_: Any) -> Any:
        raise OSError("no such code")

    return run


@pytest.mark.parametrize(("backend", "error"), [(broken, "MemoryError"), (late, "OSError")])
def test_it_is_said_once(
    backend: Any, error: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(lowering, "_said", set())
    model, x = nn.Sequential(nn.Linear(3, 4), nn.Tanh()).double(), torch.randn(2, 3, dtype=torch.float64)
    fast = tzwc.compile(model, backend=backend)
    with caplog.at_level(logging.WARNING, "tzwc.passes"):
        for _ in range(3):
            torch.testing.assert_close(fast(x), model(x))
    assert fast.level.startswith("whole graph, not lowered: ")
    assert error in fast.level
    assert [info.level for info in fast.report().specialisations] == [fast.level]
    (remark,) = fast.remarks
    assert (remark.pass_name, remark.kind) == ("lowering", "declined")
    assert error in remark.reason
    assert len([r for r in caplog.records if "operator by operator" in r.message]) == 1


def test_a_backend_that_gives_the_graph_back_has_not_failed() -> None:
    fast = tzwc.compile(nn.Linear(3, 4), backend=lambda module, _: module)
    fast(torch.randn(2, 3))
    assert fast.level == "whole graph"


_WITHOUT_COMPILER = """
import torch, tzwc
model, x = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh()).double(), torch.randn(2, 3).double()
fast = tzwc.compile(model)
for _ in range(2):
    torch.testing.assert_close(fast(x), model(x))
print(fast.level)
print(fast.remarks[0].reason)
"""


@pytest.mark.inductor
@pytest.mark.parametrize("cxx", [None, "/nowhere/c++"])
def test_without_a_compiler(cxx: str | None, tmp_path_factory: pytest.TempPathFactory) -> None:
    empty = tmp_path_factory.mktemp("empty")
    environment = {k: v for k, v in os.environ.items() if k not in ("CXX", "TZWC_LOG", "TORCH_LOGS")}
    environment |= {"PATH": str(empty), "TORCHINDUCTOR_CACHE_DIR": str(empty / "inductor")}
    environment |= {} if cxx is None else {"CXX": cxx}
    command = [sys.executable, "-c", _WITHOUT_COMPILER]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    level, remark = done.stdout.splitlines()
    assert level == "whole graph, not lowered: no C++ compiler"
    assert remark.endswith("no C++ compiler")
    assert done.stderr.count("install g++, or name a compiler in CXX") == 1
