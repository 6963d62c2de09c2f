"""The faster library is taken, and remembered."""

from __future__ import annotations

from pathlib import Path

import pytest

import tzwc.products.choice
import tzwc.tuning.store
from tests.tuning.fakes import FakeTimer
from tzwc.products.choice import ATEN, ONEDNN, Operand, choose
from tzwc.tuning import Store, TuningWarning

A, B = Operand((4, 16, 8), (0, 8, 1)), Operand((4, 8, 16), (128, 16, 1))


@pytest.fixture
def timer(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> FakeTimer:
    """ATen's products take as long as the parameter says, oneDNN's a second."""
    monkeypatch.setattr(tzwc.tuning.store, "_said", set())
    monkeypatch.setattr(tzwc.products.choice.torch, "bmm", lambda *_: request.param)  # type: ignore[attr-defined]
    monkeypatch.setattr(tzwc.products.choice, "product", lambda *_: 1.0)
    return FakeTimer()


@pytest.mark.parametrize(("timer", "best"), [(2.0, ONEDNN), (1.02, ATEN), (0.5, ATEN)], indirect=["timer"])
def test_only_a_clear_gain_counts(timer: FakeTimer, best: str, tmp_path: Path) -> None:
    first, *_ = choose(A, B, store=Store(tmp_path), timer=timer)
    assert first == best


@pytest.mark.parametrize("timer", [2.0], indirect=True)
def test_what_was_measured_is_not_measured_again(timer: FakeTimer, tmp_path: Path) -> None:
    found = choose(A, B, store=Store(tmp_path), timer=timer)
    calls = timer.calls
    assert choose(A, B, store=Store(tmp_path), timer=timer) == found
    assert timer.calls == calls
    choose(B, A, store=Store(tmp_path), timer=timer)
    assert timer.calls > calls


@pytest.mark.parametrize("timer", [2.0], indirect=True)
@pytest.mark.parametrize(
    "damage", ['"seconds"', "{}", '{"aten":1.0}', '{"aten":-1,"onednn":1}', '{"aten":1,"onednn":1,"x":1}']
)
def test_a_file_with_something_else_is_measured_again(timer: FakeTimer, damage: str, tmp_path: Path) -> None:
    choose(A, B, store=Store(tmp_path), timer=timer)
    (path,) = tmp_path.iterdir()
    text = path.read_text()
    path.write_text(text[: text.index('"value":')] + f'"value":{damage}}}')
    calls = timer.calls
    with pytest.warns(TuningWarning, match="counts as missing"):
        choose(A, B, store=Store(tmp_path), timer=timer)
    assert timer.calls > calls
    assert path.read_text() == text


def test_operands_are_like_what_they_stand_for() -> None:
    for operand in (A, B, Operand((3, 5), (1, 3))):
        made = operand.tensor()
        assert (tuple(made.shape), made.stride()) == (operand.shape, operand.stride)
    assert A.shared
    assert not B.shared
    assert Operand((1, 3, 5), (15, 5, 1)).shared
