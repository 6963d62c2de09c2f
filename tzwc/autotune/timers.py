"""How long a call takes: by a clock on a CPU, by events on a CUDA device.

With one thread the clock is the thread's own, which stands still while other programs have the processor: on a busy
machine a call of 3 ms waits 16 ms for its turn half of the time, and medians of elapsed time say nothing. With several
threads only elapsed time says how well they share the work.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

import torch

__all__ = ["Call", "CpuTimer", "CudaTimer", "Timer", "timer_for"]

Call = Callable[[], object]

LEAST = 2e-6
"""Seconds that no operator of torch is faster than."""


class Timer(Protocol):
    """What :mod:`tzwc.autotune.measure` measures with."""

    def time(self, call: Call, times: int) -> float:
        """Seconds of one call, averaged over ``times`` calls in a row."""

    def now(self) -> float:
        """Seconds on a clock that never goes back: what budgets are counted with."""


class CpuTimer:
    """By the clock of the thread where torch uses one, and otherwise by elapsed time."""

    def __init__(self) -> None:
        self.clock = time.thread_time if torch.get_num_threads() == 1 else time.perf_counter

    def time(self, call: Call, times: int) -> float:
        """Seconds of one call, averaged over ``times`` calls in a row."""
        clock = self.clock
        begun, start = time.perf_counter(), clock()
        for _ in range(times):
            call()
        spent, elapsed = clock() - start, time.perf_counter() - begun
        if spent < LEAST:  # on some virtual machines the thread's clock stands still for milliseconds
            spent = elapsed
        return max(spent, 1e-9) / times

    def now(self) -> float:
        """Seconds."""
        return time.perf_counter()


class CudaTimer(CpuTimer):
    """By events in the current stream: what the device worked, with the gaps in which it waited for the host."""

    def time(self, call: Call, times: int) -> float:
        """Seconds of one call, averaged over ``times`` calls in a row."""
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        start.record()
        for _ in range(times):
            call()
        end.record()
        end.synchronize()
        return float(start.elapsed_time(end)) / 1e3 / times


def timer_for(device: str) -> Timer:
    """The timer for a type of device, such as ``"cuda"``."""
    return CudaTimer() if device == "cuda" else CpuTimer()
