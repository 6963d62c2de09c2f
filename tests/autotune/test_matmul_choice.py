"""The faster library is taken, and remembered."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import tzwc.autotune.matmul_choice
import tzwc.util.disk_cache
from tests.support.fake_timer import FakeTimer
from tzwc.autotune import Store, TuningWarning
from tzwc.autotune.matmul_choice import ATEN, ONEDNN, Operand, choose

A, B = Operand((4, 16, 8), (0, 8, 1)), Operand((4, 8, 16), (128, 16, 1))


@pytest.fixture(autouse=True)
def _callable(monkeypatch: pytest.MonkeyPatch) -> None:
    """oneDNN can be called, whatever this machine has."""
    monkeypatch.setattr(tzwc.autotune.matmul_choice, "available", lambda: True)


@pytest.fixture
def timer(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> FakeTimer:
    """ATen's products take as long as the parameter says, oneDNN's a second."""
    monkeypatch.setattr(tzwc.util.disk_cache, "_said", set())
    monkeypatch.setattr(torch, "bmm", lambda *_: request.param)
    monkeypatch.setattr(tzwc.autotune.matmul_choice, "product", lambda *_: 1.0)
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


def test_defaults_of_torch_do_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Float32 on CPU is measured in a program that works in float64 on another device, too."""
    monkeypatch.setattr(tzwc.autotune.matmul_choice, "product", torch.matmul)
    seen: list[torch.Tensor] = []
    monkeypatch.setattr(torch, "bmm", lambda a, b: seen.extend((a, b)) or torch.matmul(a, b))
    torch.set_default_dtype(torch.float64)
    try:
        with torch.device("meta"):
            assert choose(A, B, store=Store(tmp_path)).keys() == {ATEN, ONEDNN}
    finally:
        torch.set_default_dtype(torch.float32)
    assert {(x.dtype, x.device.type) for x in seen} == {(torch.float32, "cpu")}


def test_what_needs_too_much_memory_is_not_measured(tmp_path: Path) -> None:
    wide = 1 << 16
    for a, b in [
        (Operand((1 << 21, 1 << 20), (1 << 20, 1)), Operand((1 << 20, 8), (8, 1))),
        (Operand((wide, 8), (8, 1)), Operand((8, wide), (wide, 1))),
    ]:
        assert choose(a, b, store=Store(tmp_path)) == {}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("timer", [2.0], indirect=True)
def test_nothing_is_chosen_without_a_comparison(
    timer: FakeTimer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> float:
        raise RuntimeError("no memory")

    monkeypatch.setattr(torch, "bmm", fail)
    assert choose(A, B, store=Store(tmp_path), timer=timer) == {}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("timer", [2.0], indirect=True)
def test_nothing_is_measured_where_onednn_cannot_be_called(
    timer: FakeTimer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ATen was measured again at each lowering, or its products were remembered as oneDNN's."""
    monkeypatch.setattr(tzwc.autotune.matmul_choice, "available", lambda: False)
    assert choose(A, B, store=Store(tmp_path), timer=timer) == {}
    assert timer.calls == 0
    assert list(tmp_path.iterdir()) == []
