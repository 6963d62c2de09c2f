"""EinMix against convolutions for the 1×1 layers, and ways to write G-IBS: what the eager model is made of.

Contenders of a comparison run interleaved, in one process; reported are medians and their ratio to the first one's.

    python benchmarks/model_layers.py [--rounds 30] [--threads 1] [--json out.json]
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
from einops import rearrange
from einops.layers.torch import EinMix
from torch import Tensor, nn

from tzwc.models.layers import GroupedStandardisation, batch_standardise, instance_standardise

__all__ = ["main", "measure"]

Module = Callable[[Tensor], Tensor]


def measure(contenders: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median seconds of each contender, one call of each in every round, after two rounds that do not count."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(rounds + 2):
        for name, run in contenders.items():
            start = time.perf_counter()
            run()
            if turn >= 2:
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def pointwise_contenders(dims: int, channels: int, out_channels: int) -> dict[str, Module]:
    """A 1×1 layer as a convolution and as an EinMix with the same number of parameters."""
    axes = "h w" if dims == 2 else "l"
    mix = EinMix(f"b c {axes} -> b o {axes}", weight_shape="o c", bias_shape="o", c=channels, o=out_channels)
    return {"conv": (nn.Conv2d if dims == 2 else nn.Conv1d)(channels, out_channels, 1), "einmix": mix}


def _twelve_slices(x: Tensor) -> Tensor:
    groups = x.chunk(12, 1)
    return torch.cat([instance_standardise(g) if i % 2 else batch_standardise(g) for i, g in enumerate(groups)], 1)


def _statistics_first(x: Tensor) -> Tensor:
    """Instance statistics of all channels; batch statistics from them by the law of total variance."""
    variance, mean = torch.var_mean(x, (2, 3), correction=0)
    v, m = (rearrange(t, "b (g p c) -> p b g c", p=2, g=6) for t in (variance, mean))
    batch_mean = m[0].mean(0, keepdim=True)
    batch_variance = (v[0] + (m[0] - batch_mean) ** 2).mean(0, keepdim=True)
    means = rearrange([batch_mean.expand_as(m[0]), m[1]], "p b g c -> b (g p c) 1 1")
    variances = rearrange([batch_variance.expand_as(v[0]), v[1]], "p b g c -> b (g p c) 1 1")
    return (x - means) * torch.rsqrt(variances + 1e-5)


def comparisons() -> dict[str, tuple[tuple[int, ...], dict[str, Module]]]:
    """Name of each comparison: the shape of its input and its contenders."""
    table: dict[str, tuple[tuple[int, ...], dict[str, Module]]] = {}
    for channels, out in ((12, 12), (36, 36), (144, 144), (360, 72)):
        table[f"1x1 2-D {channels}->{out}"] = ((8, channels, 32, 32), pointwise_contenders(2, channels, out))
    for channels, out in ((12, 12), (36, 36), (144, 144)):
        table[f"1x1 1-D {channels}->{out}"] = ((8, channels, 784), pointwise_contenders(1, channels, out))
    for channels in (12, 72, 288):
        standardise: dict[str, Module] = {
            "two halves": GroupedStandardisation("h w", 12),
            "twelve slices": _twelve_slices,
            "statistics first": _statistics_first,
        }
        table[f"G-IBS {channels}"] = ((8, channels, 32, 32), standardise)
    return table


def _run(module: Module, x: Tensor, backward: bool) -> Callable[[], object]:
    gradient = torch.ones_like(module(x))

    leaves = [x, *(module.parameters() if isinstance(module, nn.Module) else ())]

    def forward() -> object:
        with torch.no_grad():
            return module(x)

    def both() -> object:
        return torch.autograd.grad(module(x), leaves, gradient)

    return both if backward else forward


def main() -> None:
    """Measure, print a table, write ``--json``."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", type=Path, help="file to write the measurements to")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    results: list[dict[str, Any]] = []
    for name, (shape, modules) in comparisons().items():
        x = torch.randn(shape, requires_grad=True)
        for backward in (False, True):
            runs = {contender: _run(module, x, backward) for contender, module in modules.items()}
            medians = measure(runs, arguments.rounds)
            base = next(iter(medians.values()))
            row = {"comparison": name, "shape": shape, "backward": backward, "seconds": medians}
            results.append({**row, "ratio": {contender: value / base for contender, value in medians.items()}})
            cells = "  ".join(f"{c} {1e3 * s:8.3f} ms ({s / base:4.2f})" for c, s in medians.items())
            print(f"{name:18} {'forward+backward' if backward else 'forward':17} {cells}", flush=True)
    if arguments.json is not None:
        machine = {"torch": torch.__version__, "threads": torch.get_num_threads(), "machine": platform.processor()}
        arguments.json.write_text(json.dumps({**machine, "rounds": arguments.rounds, "results": results}, indent=1))


if __name__ == "__main__":
    main()
