"""What is known of this machine's memory."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

import tzwc.util.system_memory
from tzwc.util.system_memory import memory_of, too_large

CPU = torch.device("cpu")


def test_main_memory() -> None:
    found = memory_of(CPU)
    assert found is not None
    assert 1 << 28 < found <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


@pytest.mark.parametrize("text", ["max\n", "1000000\n", "", "9223372036854771712\n"])
def test_the_limit_of_a_container(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "limit").write_text(text)
    monkeypatch.setattr(tzwc.util.system_memory, "_LIMITS", ())
    whole = memory_of(CPU)
    monkeypatch.setattr(tzwc.util.system_memory, "_LIMITS", (str(tmp_path / "none"), str(tmp_path / "limit")))
    assert memory_of(CPU) == (1_000_000 if text.startswith("1") else whole)


def test_systems_that_do_not_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sysconf")
    assert memory_of(CPU) is None
    assert too_large(1 << 80) is None


def test_nothing_is_too_large_where_no_memory_is_taken() -> None:
    assert memory_of(torch.device("meta")) is None
    with torch.device("meta"):
        assert too_large(1 << 80) is None
    with FakeTensorMode():
        assert too_large(1 << 80) is None
    assert too_large(1 << 80) is not None
    assert too_large(1 << 20) is None
