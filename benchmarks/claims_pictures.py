"""Pictures of what ``claims.py`` found."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

__all__ = ["draw_curves", "draw_features", "draw_kernel_states"]

Runs = Mapping[tuple[str, str], Sequence[dict[str, Any]]]


def draw_curves(runs: Runs, names: Sequence[str], path: Path) -> None:
    """Held-out accuracy by epoch and by second: mean over the seeds, and every seed as a thin line."""
    tasks = sorted({task for task, _ in runs})
    figure = Figure(figsize=(9, 3.2 * len(tasks)), layout="constrained")
    cells = figure.subplots(len(tasks), 2, squeeze=False)
    for row, task in zip(cells, tasks, strict=True):
        for column, (axis, unit) in enumerate(zip(row, ("epoch", "seconds"), strict=True)):
            for number, name in enumerate(names):
                group = runs.get((task, name), [])
                curves = [
                    ([e[unit] for e in run["history"]], [100 * e["test_accuracy"] for e in run["history"]])
                    for run in group
                ]
                for x, y in curves:
                    axis.plot(x, y, color=f"C{number}", linewidth=0.6, alpha=0.6)
                if curves:
                    mean = torch.tensor(curves).mean(0).tolist()
                    axis.plot(*mean, color=f"C{number}", linewidth=2, label=name)
            axis.set_title(f"{task}, held-out accuracy, %", fontsize=9)
            axis.set_xlabel("epoch" if unit == "epoch" else "seconds of processor time in training, one thread")
            axis.grid(alpha=0.3)
            if column == 0:
                axis.xaxis.set_major_locator(MaxNLocator(integer=True))
                axis.legend(fontsize=8)
            else:
                axis.set_xscale("log")
    figure.savefig(path, dpi=110)


def draw_features(runs: Runs, path: Path) -> None:
    """Histograms of each block's output before and after training, and its mean and deviation over the epochs."""
    shown = [(task, run) for (task, name), group in sorted(runs.items()) if name == "Terminator" for run in group[:1]]
    if not shown:
        return
    blocks = max(len(run["features"]["0"]) for _, run in shown)
    figure = Figure(figsize=(3.2 * (blocks + 1), 2.8 * len(shown)), layout="constrained")
    cells = figure.subplots(len(shown), blocks + 1, squeeze=False)
    for row, (task, run) in zip(cells, shown, strict=True):
        epochs = sorted(map(int, run["features"]))
        for block in range(len(run["features"]["0"])):
            for epoch in (epochs[0], epochs[len(epochs) // 2], epochs[-1]):
                entry = run["features"][str(epoch)][block]
                low, high = entry["range"]
                x = torch.linspace(low, high, len(entry["histogram"]) + 1)[:-1]
                row[block].step(x.tolist(), entry["histogram"], where="post", label=f"epoch {epoch}", linewidth=1)
            row[block].set_yscale("log")
            row[block].set_title(f"{task}, block {block}: share of values", fontsize=9)
            row[block].legend(fontsize=7)
        for block in range(len(run["features"]["0"])):
            entries = [run["features"][str(epoch)][block] for epoch in epochs]
            mean, std = ([entry[key] for entry in entries] for key in ("mean", "std"))
            row[-1].plot(epochs, mean, color=f"C{block}", label=f"block {block}: mean")
            row[-1].plot(epochs, std, color=f"C{block}", linestyle="--", label=f"block {block}: deviation")
        row[-1].set_title("by epoch", fontsize=9)
        row[-1].legend(fontsize=7)
    figure.savefig(path, dpi=110)


def draw_kernel_states(out: Path, pictures: Path) -> None:
    """Global and context-dependent kernels of every block over the epochs, one picture a task."""
    for folder in sorted(out.glob("*-Terminator-0")):
        paths = {int(path.stem.split("-")[1]): path for path in folder.glob("kernels-*.json")}
        if not paths:
            continue
        epochs = sorted({min(paths, key=lambda epoch: abs(epoch - wanted)) for wanted in (0, 1, 2, 5, 10, max(paths))})
        states = {epoch: json.loads(paths[epoch].read_text()) for epoch in epochs}
        task = folder.name.split("-")[0]
        _draw_states(states, task, pictures / f"kernels-{task}.png")


def _draw_states(states: Mapping[int, list[dict[str, Any]]], task: str, path: Path) -> None:
    """One column an epoch; two rows, ``K`` and ``Z⊙K``, for each of a block's first two channels."""
    blocks = next(iter(states.values()))
    rows = [
        (block, channel, kind)
        for block in range(len(blocks))
        for channel in range(min(2, len(blocks[block]["global"])))
        for kind in ("global", "context")
    ]
    flat = not isinstance(blocks[0]["global"][0][0], list)
    figure = Figure(figsize=(1.9 * len(states), (0.95 if flat else 1.5) * len(rows) + 0.4), layout="constrained")
    figure.suptitle(f"{task}: kernels K that the slow networks write, and Z⊙K for one held-out sample", fontsize=9)
    cells = figure.subplots(len(rows), len(states), squeeze=False)
    epochs = list(states)
    for number, (line, (block, channel, kind)) in enumerate(zip(cells, rows, strict=True)):
        values = [torch.tensor(state[block][kind][channel]) for state in states.values()]
        # One scale a row, and white is zero: what changes with the epochs can be seen, and where Z vanishes.
        largest = max(float(value.abs().max()) for value in values)
        for column, (cell, value) in enumerate(zip(line, values, strict=True)):
            cell.set_xticks([])
            cell.set_yticks([])
            if flat:
                cell.axhline(0, color="0.8", linewidth=0.5)
                cell.plot(value.tolist(), linewidth=0.7)
                cell.set_ylim(-1.05 * largest, 1.05 * largest)
            else:
                cell.imshow(value.numpy(), cmap="RdBu", vmin=-largest, vmax=largest)
            if number == 0:
                cell.set_title("before training" if epochs[column] == 0 else f"epoch {epochs[column]}", fontsize=8)
        symbol = "K" if kind == "global" else "Z⊙K"
        line[0].set_ylabel(f"block {block},\nchannel {channel}:\n{symbol}", fontsize=7)
    figure.savefig(path, dpi=90)
