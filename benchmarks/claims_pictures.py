"""Pictures of what ``claims.py`` found."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure

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
            axis.set_title(f"{task}, accuracy on held-out images, %", fontsize=9)
            axis.set_xlabel("epoch" if unit == "epoch" else "seconds of training, one thread")
            axis.grid(alpha=0.3)
            if column == 0:
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
    """Global and context-dependent kernels of every block, one picture a task and epoch."""
    for path in sorted(out.glob("*-Terminator-0/kernels-*.json")):
        task, epoch = path.parent.name.split("-")[0], path.stem.split("-")[1]
        _draw_blocks(json.loads(path.read_text()), f"{task}, epoch {epoch}", pictures / f"kernels-{task}-{epoch}.png")


def _draw_blocks(state: list[dict[str, Any]], title: str, path: Path) -> None:
    columns = max(len(block["global"]) for block in state)
    kinds = (("global", "K"), ("context", "Z⊙K"))
    figure = Figure(figsize=(1.3 * columns + 0.6, 1.35 * 2 * len(state)), layout="constrained")
    figure.suptitle(f"{title}: hyper-kernels K, and context-dependent kernels Z⊙K of one image", fontsize=9)
    cells = figure.subplots(2 * len(state), columns, squeeze=False)
    for number, (block, (kind, symbol)) in enumerate((b, k) for b in state for k in kinds):
        for column, cell in enumerate(cells[number]):
            cell.set_axis_off()
            if column < len(block[kind]):
                values = torch.tensor(block[kind][column])
                if values.ndim == 2:
                    cell.imshow(values.numpy(), cmap="RdBu")
                else:
                    cell.plot(values.tolist(), linewidth=0.7)
                cell.set_title(f"block {number // 2}: {symbol}" if column == 0 else str(column), fontsize=7)
    figure.savefig(path, dpi=90)
