"""Files of measurements, damaged in any way: a choice among the legal algorithms, and at most a ``TuningWarning``."""

from __future__ import annotations

import contextlib
import functools
import json
import math
import warnings
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import tzwc.util.disk_cache
from tests.support.examples import examples
from tests.support.hostile_input import damaged, data, mutated
from tests.support.measurement_files import CHOICE, KEY, LEGAL, PROBLEM, entry
from tzwc.autotune.calibration import built_in, read_samples, write_samples
from tzwc.autotune.choice import choose
from tzwc.autotune.fingerprint import fingerprint
from tzwc.bench.journal import Journal
from tzwc.util.disk_cache import Store, TuningWarning


@functools.cache
def calibration() -> dict[str, Any]:
    """Enough of the table that comes with tzwc for every algorithm to have a prediction."""
    samples = [s for s in built_in() if s.problem.direction == "forward" and s.problem.axes == 1]
    return write_samples(samples[:24])


def chosen(store: Store, tune: Any) -> None:
    """One of the legal algorithms is chosen, twice the same, with finite predictions."""
    tzwc.util.disk_cache._said.clear()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TuningWarning)
        found = choose(PROBLEM, tune=tune, store=store)
        assert found.algorithm in LEGAL
        json.dumps(found.to_dict(), allow_nan=False)
        assert all(math.isfinite(c.predicted) for c in found.candidates.values() if c.predicted is not None)
        assert isinstance(store.entries(), list)


@settings(max_examples=examples(8))
@given(st.data())
@example(None)
def test_mutated_calibrations(tmp_path_factory: pytest.TempPathFactory, draw: st.DataObject | None) -> None:
    store = Store(tmp_path_factory.mktemp("store"))
    value = calibration() if draw is None else draw.draw(mutated(calibration(), data))
    store._write(store._path("calibration", fingerprint("cpu")), entry("calibration", fingerprint("cpu"), value))
    chosen(store, "model")


@pytest.mark.parametrize("seconds", [5e-324, 1e-300, 1e-9, 9e8])
def test_times_that_nobody_measured(tmp_path: Path, seconds: float) -> None:
    value = calibration()
    store = Store(tmp_path)
    extreme = [
        [problem, dict.fromkeys(times, seconds) if n % 2 else times]
        for n, (problem, times) in enumerate(value["samples"])
    ]
    machine = fingerprint("cpu")
    store._write(store._path("calibration", machine), entry("calibration", machine, {"samples": extreme}))
    chosen(store, "model")


@settings(max_examples=examples(8))
@given(st.data())
def test_mutated_choices(tmp_path_factory: pytest.TempPathFactory, draw: st.DataObject) -> None:
    store = Store(tmp_path_factory.mktemp("store"))
    store._write(store._path("choice", KEY), entry("choice", KEY, draw.draw(mutated(CHOICE, data))))
    chosen(store, "measure")


@settings(max_examples=examples(8))
@given(st.data())
def test_damaged_files(tmp_path_factory: pytest.TempPathFactory, draw: st.DataObject) -> None:
    store = Store(tmp_path_factory.mktemp("store"))
    for kind, key, value in (("calibration", fingerprint("cpu"), calibration()), ("choice", KEY, CHOICE)):
        path = store._path(kind, key)
        store.folder.mkdir(exist_ok=True)
        path.write_bytes(draw.draw(damaged(entry(kind, key, value).encode())))
    chosen(store, "model")
    chosen(store, "measure")


@settings(max_examples=examples(8))
@given(mutated({"samples": []}, data))
def test_foreign_tables(value: Any) -> None:
    with contextlib.suppress(ValueError):
        assert isinstance(read_samples(value), list)


@settings(max_examples=examples(8))
@given(st.data())
def test_journals(tmp_path_factory: pytest.TempPathFactory, draw: st.DataObject) -> None:
    """Of a journal with anything in it, the lines that are whole count, and the next one can be read."""
    path = tmp_path_factory.mktemp("journal") / "lines"
    lines = [{"kind": "case", "number": n, "of": {"seed": 1}, "found": {"n": n}} for n in range(3)]
    text = "\n".join(json.dumps(line) for line in draw.draw(mutated(lines, data)))
    path.write_bytes(draw.draw(st.one_of(st.just(text.encode()), damaged(text.encode()))))
    journal = Journal(path, {"seed": 1})
    assert all(isinstance(found, dict) for found in journal.known.values())
    journal.once("case", 77, lambda: {"n": 77})
    assert Journal(path, {"seed": 1}).known["case", 77] == {"n": 77}
