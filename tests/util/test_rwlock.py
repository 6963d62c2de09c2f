"""Many readers or one writer."""

from __future__ import annotations

import threading
import time

import pytest

from tzwc.util.rwlock import Gate


def _blocked(thread: threading.Thread) -> bool:
    thread.join(0.05)
    return thread.is_alive()


def test_readers_go_side_by_side_and_writers_alone() -> None:
    gate, order = Gate(), list[str]()

    def read() -> None:
        with gate.reading():
            order.append("read")

    def write() -> None:
        with gate.writing():
            order.append("write")

    assert not gate.inside
    with gate.reading(), gate.reading():
        assert gate.inside
        beside = threading.Thread(target=read, daemon=True)
        beside.start()
        beside.join(300)
        assert not beside.is_alive()
        writer = threading.Thread(target=write, daemon=True)
        writer.start()
        assert _blocked(writer)
        while not gate._waiting:  # a slow machine may not have brought it that far
            time.sleep(0.01)
        late = threading.Thread(target=read, daemon=True)
        late.start()
        assert _blocked(late)  # a reader that comes after a waiting writer waits behind it
        with gate.reading():  # one that is inside may read again
            pass
        assert _blocked(writer)
    assert not gate.inside
    writer.join(300)
    late.join(300)
    assert order == ["read", "write", "read"]


def test_writers_wait_for_each_other_and_may_read_and_write() -> None:
    gate, order = Gate(), list[str]()

    def write() -> None:
        with gate.writing():
            order.append("other")

    def read() -> None:
        with gate.reading():
            order.append("reader")

    with gate.writing():
        with gate.writing(), gate.reading():
            pass
        threads = [threading.Thread(target=target, daemon=True) for target in (write, read)]
        for thread in threads:
            thread.start()
        assert all(map(_blocked, threads))
        order.append("mine")
    for thread in threads:
        thread.join(300)
    assert order[0] == "mine"
    assert sorted(order[1:]) == ["other", "reader"]
    with gate.writing():
        pass


def test_an_error_inside_leaves_the_gate_open() -> None:
    gate = Gate()
    for enter in (gate.reading, gate.writing):
        with pytest.raises(ZeroDivisionError), enter():
            raise ZeroDivisionError
    with gate.writing():
        pass
    assert not gate.inside
