"""A process in which one contender of ``tzwc bench model`` runs, or the yardstick that all are held against.

Requests come on standard input and are answered on standard output, a line of JSON each: ``build``, ``first``,
``again`` and ``measure``. The process ends with its standard input.
"""

from __future__ import annotations

import gc
import json
import os
import queue
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tzwc._torch.inductor import preload
from tzwc.bench.breaks import quiet
from tzwc.bench.devices import clock_of, wait
from tzwc.bench.model.contenders import build, note_of
from tzwc.bench.model.memory import give_back, peak, restart_peak
from tzwc.bench.model.reference import Reference, arithmetic
from tzwc.bench.model.targets import Subject

__all__ = ["Runner", "Task", "Yardstick", "main"]

_PRODUCT = 2048  # rows and columns: where products have long reached their speed, and below a second on any CPU


@dataclass(frozen=True)
class Task:
    """What a process is for.

    Attributes:
        contender: its name; ``None`` for the yardstick.
        target: see :class:`~tzwc.bench.model.targets.Subject`.
        batch, training: likewise.
        backend: of ``torch.compile`` and of tzwc.
        threads: of torch.
        reference: where the yardstick writes the expected results, and a contender finds them.
        device: where the contender runs, and the yardstick's products; what is expected is computed on the CPU.
        precision: see :class:`~tzwc.bench.model.targets.Subject`.
    """

    contender: str | None
    target: str
    batch: int
    training: bool
    backend: str
    threads: int
    reference: str
    device: str = "cpu"
    precision: str = "float32"


class Runner:
    """A contender: its first call, the calls that settle it, and calls that are measured."""

    def __init__(self, task: Task) -> None:
        assert task.contender is not None
        if task.backend == "inductor":
            preload()  # no part of anyone's first call or memory
        give_back()
        restart_peak(task.device)
        self._before = peak(task.device)
        self._task, self._name = task, task.contender
        self._subject = Subject(task.target, task.batch, task.training, task.device, task.precision)
        self._module: Callable[..., Any] | None = None
        self._call: Callable[[], torch.Tensor] | None = None

    def first(self) -> dict[str, Any]:
        """Compile and call; how long both took together, the memory, and how far the results are from float64."""
        start = time.perf_counter()
        self._module = build(self._name, self._subject.model, self._task.backend)
        self._call = self._subject.call(self._module)
        returned = self._call()
        wait(self._task.device)
        seconds, most = time.perf_counter() - start, peak(self._task.device) - self._before
        return {"seconds": seconds, "memory": most, **self._judged(returned), "note": note_of(self._module)}

    def again(self) -> dict[str, Any]:
        """Call twice more, as what was kept or is compiled a second time answers from here on; as :meth:`first`."""
        assert self._call is not None
        self._call()
        start = time.perf_counter()
        returned = self._call()
        wait(self._task.device)
        seconds = time.perf_counter() - start
        # A step has moved the parameters by now: its gradients are those of another point.
        judged = {} if self._task.training else self._judged(returned)
        del returned
        give_back()
        restart_peak(self._task.device)
        return {"seconds": seconds, **judged}

    def measure(self, calls: int) -> dict[str, Any]:
        """Seconds of each of so many calls, after one that does not count, and the memory of calls so far."""
        assert self._call is not None
        seconds = _timed(self._call, calls, self._task.device)
        return {"seconds": seconds, "memory": peak(self._task.device) - self._before}

    def _judged(self, returned: torch.Tensor) -> dict[str, Any]:
        path = Path(self._task.reference)
        if not path.exists():
            return {"distances": {}}
        with torch.no_grad():
            return {"distances": Reference.load(path).distances(self._subject.results(returned))}


class Yardstick:
    """The model in float64, its arithmetic, and matrix products as fast as this machine makes them."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._a = torch.randn(_PRODUCT, _PRODUCT, device=task.device)
        self._out = torch.empty_like(self._a)

    def first(self) -> dict[str, Any]:
        """Write the reference; say what it allows and what is to be computed."""
        task = self._task
        flops = arithmetic(task.target, task.batch, task.training)
        reference = Reference.of(task.target, task.batch, task.training, task.precision)
        reference.save(Path(task.reference))
        found = {"allowed": reference.allowed, "flops": flops.total, "growing": flops.growing}
        del reference
        give_back()
        return {**found, "operations": 2 * _PRODUCT**3}

    def again(self) -> dict[str, Any]:
        """Multiply; how long it took."""
        self._product()
        wait(self._task.device)
        start = time.perf_counter()
        self._product()
        wait(self._task.device)
        return {"seconds": time.perf_counter() - start}

    def measure(self, calls: int) -> dict[str, Any]:
        """Seconds of each of so many products."""
        return {"seconds": _timed(self._product, calls, self._task.device)}

    def _product(self) -> None:
        torch.mm(self._a, self._a, out=self._out)


def _timed(call: Callable[[], object], calls: int, device: str) -> list[float]:
    seconds: list[float] = []
    clock = clock_of(device) or _elapsed
    gc.disable()
    try:
        call()  # brings back what the other processes have displaced, and what was given back
        seconds += [clock(call, 1) for _ in range(calls)]
    finally:
        gc.enable()
        give_back()  # many processes wait at the same time
    return seconds


def _elapsed(call: Callable[[], object], _times: int) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def main() -> None:
    """Answer requests until there are no more."""
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)  # what compilers print must not get between the replies
    requests: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(requests,), daemon=True).start()
    one: Runner | Yardstick | None = None
    while True:
        request = json.loads(requests.get())
        reply: dict[str, Any] = {}
        try:
            with quiet():
                if request["do"] == "build":
                    task = Task(**request["task"])
                    torch.set_num_threads(task.threads)
                    one = Yardstick(task) if task.contender is None else Runner(task)
                else:
                    reply = getattr(one, request["do"])(*request.get("with", ()))
        except Exception as error:  # another project's compiler may fail in any way; the rest is still worth knowing
            reply = {"error": f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"}
        replies.write(json.dumps(reply) + "\n")


def _listen(requests: queue.SimpleQueue[str]) -> None:
    """Pass on lines; when they end, so does the process, whatever it is compiling for nobody."""
    for line in sys.stdin:
        requests.put(line)
    os._exit(0)


if __name__ == "__main__":
    main()
