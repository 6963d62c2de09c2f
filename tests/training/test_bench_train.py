"""``tzwc bench train``: what it asks for and what it measures."""

from __future__ import annotations

import dataclasses
import json

import pytest
from rich.console import Console

from tests.training.toy import SPEC
from tzwc.bench import train
from tzwc.bench.train import WORKLOADS, Request, run, show_train
from tzwc.data import load
from tzwc.errors import InvalidArgumentError


def test_contenders_take_the_same_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    small = dataclasses.replace(SPEC, sizes=(8, 8), classes=10, dropout=0.0)
    monkeypatch.setattr(train, "_work", lambda name: (load(name), small))
    bench = run(Request(("digits",), ("eager", "tzwc"), "eager", rounds=2))
    eager, fast = bench.found["digits"]
    assert (eager.gap, eager.timing.name, len(fast.timing.seconds)) == (0.0, "eager", 2)
    assert fast.gap < 1e-4  # float32
    assert eager.epoch == pytest.approx(22 * eager.timing.median)
    assert json.loads(json.dumps(bench.to_dict()))["workloads"]["digits"][1]["first"] > 0
    console = Console(record=True, width=120)
    show_train(bench, console)
    assert "faster than the first" in console.export_text()


def test_every_workload_fits_its_model() -> None:
    for name in WORKLOADS:
        if name != "mnist1d":  # takes seconds to make
            data, spec = train._work(name)
            assert (data.channels, *data.grid) == (spec.in_channels, *spec.sizes)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"workloads": ("digit",)}, "workloads 'digit': expected one of digits"),
        ({"workloads": ("digits",), "contenders": ("jit",)}, "contenders 'jit'"),
        ({"workloads": ("digits",), "rounds": 1}, "rounds = 1: expected at least 2"),
    ],
)
def test_requests_that_make_no_sense(fields: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        Request(**fields)
