"""Processes that a test starts: none outlives its deadline, and what one is doing then is printed."""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import time
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.distributed as dist

__all__ = ["spawn", "spawn_workers"]


def spawn(work: Callable[..., None], *arguments: Any, count: int = 2, seconds: float = 600) -> list[int]:
    """Run ``work(number, *arguments)`` in so many new processes.

    Args:
        work: at the top of a module.
        arguments: what can be pickled.
        count: how many.
        seconds: until they are killed and the test fails.

    Returns:
        Their exit codes: 1 after an exception, whose traceback goes to standard error.
    """
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_run, args=(work, seconds, n, *arguments)) for n in range(count)]
    end = time.monotonic() + seconds
    try:
        for process in processes:
            process.start()
        for process in processes:
            process.join(max(0.0, end - time.monotonic()))
        late = [number for number, process in enumerate(processes) if process.exitcode is None]
        if late:
            pytest.fail(f"processes {late} of {count} have not ended within {seconds:g} s")
    finally:
        for process in processes:
            if process.pid is not None:
                process.kill()
                process.join()
    return [process.exitcode or 0 for process in processes]


def spawn_workers(work: Callable[..., None], *arguments: Any, seconds: float = 600) -> list[int]:
    """The same for two that find each other as under ``torchrun``, whose store lives here: no port is drawn twice."""
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    return spawn(_announced, store.port, work, *arguments, seconds=seconds)


def _announced(number: int, port: int, work: Callable[..., None], *arguments: Any) -> None:
    announced = {"RANK": number, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in announced.items()}, TORCHELASTIC_USE_AGENT_STORE="True")
    work(number, *arguments)


def _run(work: Callable[..., None], seconds: float, number: int, *arguments: Any) -> None:
    faulthandler.dump_traceback_later(0.95 * seconds)
    torch.set_num_threads(1)
    work(number, *arguments)
    faulthandler.cancel_dump_traceback_later()
