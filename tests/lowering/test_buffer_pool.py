"""Kept buffers: where they come from, that nobody's memory is another's, and that it goes back."""

from __future__ import annotations

import gc
import io
import os
import threading
from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import tzwc
from tests.support.examples import examples
from tests.support.watch_twins import BUILD_SECONDS
from tzwc.lowering import buffer_pool
from tzwc.native.loader import extension

LARGE = 1 << 16  # float32 elements: 256 KiB
SMALL = 1 << 14


@pytest.fixture(autouse=True)
def _ready() -> Iterator[None]:
    if not extension.wait(BUILD_SECONDS):
        pytest.skip(f"no kept buffers: {extension.reason}")
    if buffer_pool._ready() is None:
        pytest.skip("the system does not reserve addresses")
    gc.collect()
    buffer_pool.release()
    yield
    gc.collect()


kept_empty = buffer_pool.with_kept_buffers(torch.empty)


def in_use() -> int:
    return buffer_pool.statistics().in_use


def test_large_tensors_of_a_scope_are_kept_and_others_are_not() -> None:
    before = in_use()
    first = kept_empty(LARGE)
    assert in_use() - before >= 4 * LARGE
    held = in_use()
    others = torch.empty(LARGE), kept_empty(SMALL)
    assert in_use() == held
    address = first.data_ptr()
    del first
    assert in_use() == before
    assert kept_empty(LARGE).data_ptr() == address
    del others


def test_an_error_ends_the_scope() -> None:
    def fail() -> None:
        raise ValueError("as it happens")

    with pytest.raises(ValueError, match="as it happens"):
        buffer_pool.with_kept_buffers(fail)()
    before = in_use()
    outside = torch.empty(LARGE)
    assert in_use() == before
    del outside


def test_other_threads_are_left_alone() -> None:
    found: list[int] = []

    def inside() -> None:
        before = in_use()
        thread = threading.Thread(target=lambda: found.extend([torch.empty(LARGE).data_ptr(), in_use() - before]))
        thread.start()
        thread.join()

    buffer_pool.with_kept_buffers(inside)()
    assert found[1] == 0


@settings(max_examples=examples(20))
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5), st.integers(LARGE // 2, 4 * LARGE)), max_size=40))
def test_no_two_tensors_share_memory(steps: list[tuple[bool, int, int]]) -> None:
    """Any order of taking and giving: what was written stays, and in the end nothing is in use."""
    before = in_use()
    alive: dict[int, tuple[Tensor, float]] = {}
    for number, (take, name, size) in enumerate(steps):
        if take:
            alive[name] = (kept_empty(size).fill_(number), float(number))
        else:
            alive.pop(name, None)
        assert all(values.min() == values.max() == written for values, written in alive.values())
    alive.clear()
    assert in_use() == before


def test_a_tensor_that_left_the_scope_is_like_any_other() -> None:
    values = kept_empty(LARGE).fill_(3.0)
    stream = io.BytesIO()
    torch.save(values, stream)
    stream.seek(0)
    assert torch.equal(torch.load(stream, weights_only=True), values)
    assert torch.equal(values.clone(), values)
    before = in_use()
    values.resize_(2 * LARGE)  # allocated outside, so by the usual allocator
    assert in_use() < before
    assert values[:LARGE].min() == values[:LARGE].max() == 3.0
    values = kept_empty(LARGE).fill_(4.0)
    array = values.numpy()
    del values
    kept_empty(LARGE).fill_(5.0)
    assert array.min() == array.max() == 4.0
    shared = kept_empty(LARGE).fill_(6.0).share_memory_()
    assert shared.min() == 6.0


def test_memory_goes_back_at_once_or_after_a_while() -> None:
    held = kept_empty(LARGE)
    large = kept_empty(64 * LARGE)
    del large
    assert buffer_pool.statistics().kept > 64 * LARGE
    buffer_pool.release()
    assert 4 * LARGE <= buffer_pool.statistics().kept < 8 * LARGE
    large = kept_empty(64 * LARGE)
    del large
    for _ in range(2 * 64):
        kept_empty(LARGE)
    assert buffer_pool.statistics().kept < 16 * LARGE
    held.fill_(1.0)
    assert held.max() == 1.0


def test_a_forked_child_goes_on() -> None:
    values = kept_empty(LARGE).fill_(1.0)
    child = os.fork()
    if child == 0:
        own = kept_empty(LARGE).fill_(2.0)
        os._exit(0 if own.max() == 2.0 and values.max() == 1.0 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert values.max() == 1.0


def test_without_the_extension_buffers_come_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buffer_pool, "_native", None)
    monkeypatch.setattr(buffer_pool, "_refused", True)
    assert kept_empty(LARGE).numel() == LARGE
    assert buffer_pool.statistics() == buffer_pool.BufferStatistics(0, 0)
    buffer_pool.release()


class Wide(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv1d(3, 64, 5, padding=2)
        self.second = nn.Conv1d(64, 4, 5, padding=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(torch.tanh(self.first(x)))


@pytest.mark.parametrize("way", ["compile", "dynamo"])
def test_results_and_gradients_do_not_depend_on_it(way: str) -> None:
    torch.manual_seed(0)
    model, x = Wide(), torch.randn(2, 3, 4096, requires_grad=True)
    found: list[list[Tensor]] = []
    used: list[int] = []
    for keep in (True, False):
        options = {"backend": "aot_eager", "keep_buffers": keep}
        if way == "compile":
            fast = tzwc.compile(model, **options)
        else:
            torch.compiler.reset()
            fast = torch.compile(model, backend="tzwc", options=options)
        for _ in range(2):
            before = in_use()
            y = fast(x)
            used.append(in_use() - before)
            gradients = torch.autograd.grad(y.square().sum(), [x, *model.parameters()])
        found.append([y.detach(), *gradients])
        del y, gradients
    assert used[0] > 0
    assert used[-1] == 0
    for ours, theirs in zip(*found, strict=True):
        assert torch.equal(ours, theirs)


def test_the_option_is_true_or_false() -> None:
    with pytest.raises(tzwc.InvalidArgumentError, match="keep_buffers='yes' must be True or False"):
        tzwc.compile(Wide(), keep_buffers="yes")


def test_where_addresses_cannot_be_reserved_there_are_no_kept_buffers(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    class Refuses:
        def buffers_install(self) -> bool:
            asked.append(1)
            return False

    monkeypatch.setattr(buffer_pool, "_native", None)
    monkeypatch.setattr(buffer_pool, "_refused", False)
    monkeypatch.setattr(extension, "request", Refuses)
    for _ in range(2):
        assert kept_empty(LARGE).shape == (LARGE,)
    assert asked == [1]  # and not again
    assert buffer_pool.statistics() == buffer_pool.BufferStatistics(0, 0)
    buffer_pool.release()
