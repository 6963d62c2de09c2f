"""What it costs to see that nothing has changed: Python against native, for real parameters and for many dicts.

Parameters are those of the CIFAR-10 model. Contenders run interleaved, in one process; reported are medians.

    python benchmarks/watch.py [--rounds 300] [--dicts 5000] [--json out.json]
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from tzwc.models import terminator
from tzwc.native import ensure_native, native_reason
from tzwc.native.loader import extension
from tzwc.native.python_watch import PythonDictWatch, PythonTensorWatch
from tzwc.native.watch import native_dict_watch, native_tensor_watch

__all__ = ["main", "measure"]


Call = Callable[[], object]


def measure(contenders: dict[str, Call], rounds: int, prepare: Callable[[Call], object]) -> dict[str, float]:
    """Median seconds of each contender; in every round each is called once, after ``prepare``, which does not count."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, run in contenders.items():
            prepare(run)
            start = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def contenders(parameters: list[torch.Tensor], dicts: list[dict[str, Any]]) -> dict[str, Call]:
    """Every kind of watch, of the implementations that there are."""
    table: dict[str, Call] = {}
    modes = {"layout": (False, False), "content": (True, False), "bytes": (True, True)}
    for name, (content, compare_bytes) in modes.items():
        python = PythonTensorWatch(parameters, content, compare_bytes)
        table[f"{name} python"] = lambda watch=python: watch.changed(parameters)
        if extension.module is not None:
            native = native_tensor_watch(extension.module, parameters, content, compare_bytes)
            table[f"{name} native"] = lambda watch=native: watch.changed(parameters)
    table["dicts python"] = PythonDictWatch(dicts).changed
    if extension.module is not None:
        table["dicts native"] = native_dict_watch(extension.module, dicts).changed
        table["dicts native, lockstep"] = native_dict_watch(extension.module, dicts, lockstep=True).changed
    return table


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--dicts", type=int, default=5000, help="dicts of two entries")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()

    torch.set_num_threads(1)
    ensure_native(300)
    parameters: list[torch.Tensor] = list(terminator("cifar10").parameters())
    dicts: list[dict[str, Any]] = [{"training": True, "name": object()} for _ in range(options.dicts)]
    table = contenders(parameters, dicts)
    scratch = torch.ones(8 << 20)  # 32 MB: between two calls a model runs, and leaves nothing in the caches
    warm = measure(table, options.rounds, lambda run: run())
    cold = measure(table, max(options.rounds // 10, 10), lambda _: scratch.add_(1))

    size = sum(p.nbytes for p in parameters)
    print(f"{len(parameters)} parameters, {size / 1e6:.2f} MB; {options.dicts} dicts; microseconds per call")
    print(f"{'':24}{'warm':>10}{'cold':>10}")
    for name in table:
        print(f"{name:24}{warm[name] * 1e6:10.1f}{cold[name] * 1e6:10.1f}")
    if native_reason():
        print(f"no native watches: {native_reason()}")
    if options.json:
        machine = {"machine": platform.processor() or platform.machine(), "python": platform.python_version()}
        report = {**machine, "torch": torch.__version__, "warm": warm, "cold": cold}
        options.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
