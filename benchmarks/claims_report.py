"""Tables and pictures from the results of ``claims.py``, into docs/claims.md (between its markers) and docs/claims/."""

from __future__ import annotations

import itertools
import json
import statistics
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from claims_models import ABLATIONS, BASELINES
from claims_pictures import draw_curves, draw_features, draw_kernel_states

__all__ = ["report"]

_BEGIN, _END = "<!-- results: written by benchmarks/claims.py -->", "<!-- end of results -->"
_GOALS = (0.8, 0.9, 0.95)
_TITLES = {"digits": "8×8 images (2-D)", "sdigits": "sequences of 64 pixels (1-D)"}

Result = dict[str, Any]


def report(out: Path, docs: Path) -> None:
    """Write tables and pictures of all results in ``out``."""
    results = [json.loads(path.read_text()) for path in sorted(out.glob("*/result.json"))]
    if not results:
        print(f"{out}: no results yet")
        return
    runs: dict[tuple[str, str], list[Result]] = defaultdict(list)
    for result in results:
        runs[result["task"], result["name"]].append(result)
    pictures = docs / "claims"
    pictures.mkdir(parents=True, exist_ok=True)
    draw_curves(runs, ("Terminator", *BASELINES), pictures / "curves.png")
    draw_features(runs, pictures / "features.png")
    draw_kernel_states(out, pictures)
    text = "\n".join([_BEGIN, "", *_lines(runs, out), "", _END])
    page = docs / "claims.md"
    old = page.read_text(encoding="utf-8") if page.exists() else f"{_BEGIN}\n{_END}\n"
    before, rest = old.split(_BEGIN, 1)
    page.write_text(before + text + rest.split(_END, 1)[1], encoding="utf-8")
    print(f"{page}: {len(results)} runs; pictures in {pictures}/")


def _lines(runs: dict[tuple[str, str], list[Result]], out: Path) -> Iterator[str]:
    for task, title in _TITLES.items():
        rows = [(name, runs[task, name]) for name in ("Terminator", *BASELINES) if (task, name) in runs]
        if not rows:
            continue
        epochs = len(rows[0][1][0]["history"])
        yield f"**{title}**, {epochs} epochs; accuracy on 384 held-out images, mean ± deviation over the seeds:"
        yield ""
        goals = [f"epochs to {goal:.0%}" for goal in _GOALS]
        yield _row("", "seeds", "parameters", "epoch 1", "epoch 2", f"epoch {epochs}", *goals, "s an epoch (median)")
        yield _row("---", *["---:"] * (6 + len(goals)))
        for name, group in rows:
            accuracy = [[_at(run, epoch) for run in group] for epoch in (1, 2, epochs)]
            reached = [_epochs_to(group, goal) for goal in _GOALS]
            seconds = statistics.median(time for run in group for time in _epoch_seconds(run))
            yield _row(
                name, len(group), f"{group[0]['parameters']:,}", *map(_percent, accuracy), *reached, f"{seconds:.1f}"
            )
        yield ""
    yield from _ablations(runs)
    yield from _features(runs)
    resolution = out / "resolution.json"
    if resolution.exists():
        yield from _resolution(json.loads(resolution.read_text()))


def _ablations(runs: dict[tuple[str, str], list[Result]]) -> Iterator[str]:
    base = {run["seed"]: run for run in runs.get(("digits", "Terminator"), [])}
    found = [(name, runs["digits", name]) for name in ABLATIONS if ("digits", name) in runs]
    if not base or not found:
        return
    yield "**What a part is worth**: Terminator on images, difference to the whole model with the same seed, in points:"
    yield ""
    yield _row("", "seeds", "parameters", "epoch 2", "last epoch", "loss on held-out images, last epoch")
    yield _row("---", *["---:"] * 5)
    whole = list(base.values())
    losses = [run["history"][-1]["test_loss"] for run in whole]
    last = [_at(run, -1) for run in whole]
    second = [_at(run, 2) for run in whole]
    yield _row(
        "whole",
        len(whole),
        f"{whole[0]['parameters']:,}",
        _percent(second),
        _percent(last),
        f"{statistics.mean(losses):.3f}",
    )
    for name, group in found:
        pairs = [(run, base[run["seed"]]) for run in group if run["seed"] in base]
        if not pairs:
            continue
        gains = [[100 * (_at(a, epoch) - _at(b, epoch)) for a, b in pairs] for epoch in (2, -1)]
        loss = statistics.mean(a["history"][-1]["test_loss"] for a, _ in pairs)
        said = [", ".join(f"{value:+.1f}" for value in values) for values in gains]
        yield _row(name, len(pairs), f"{group[0]['parameters']:,}", *said, f"{loss:.3f}")
    yield ""


def _features(runs: dict[tuple[str, str], list[Result]]) -> Iterator[str]:
    yield "**Features**: mean and deviation of each block's output on 64 held-out samples, first seed:"
    yield ""
    yield _row("", "task", "before training", "after epoch 1", "after the last epoch")
    yield _row("---", *["---"] * 4)
    for (task, name), group in sorted(runs.items()):
        if name not in ("Terminator", "batch only", "instance only", *BASELINES):
            continue
        features = min(group, key=lambda run: run["seed"])["features"]
        last = str(max(map(int, features)))
        cells = ["; ".join(f"{b['mean']:+.2f} ± {b['std']:.2f}" for b in features[e]) for e in ("0", "1", last)]
        yield _row(name, task, *cells)
    yield ""


def _resolution(found: list[dict[str, Any]]) -> Iterator[str]:
    yield "**Another grid**: trained on 8×8, evaluated on the same held-out images interpolated to 12×12 and 16×16:"
    yield ""
    yield _row("omega_0 of the global slow networks", "8×8", "kernels", "12×12", "16×16")
    yield _row("---", *["---:"] * 4)
    for entry in found:
        yield _row(
            f"{entry['omega_0']:g}",
            f"{entry['trained']:.1%}",
            entry["kernels"],
            f"{entry['12']:.1%}",
            f"{entry['16']:.1%}",
        )
    yield ""


def _at(run: Result, epoch: int) -> float:
    return float(run["history"][epoch - 1 if epoch > 0 else epoch]["test_accuracy"])


def _epoch_seconds(run: Result) -> list[float]:
    times = [0.0, *(float(row["seconds"]) for row in run["history"])]
    return [after - before for before, after in itertools.pairwise(times)]


def _percent(values: Sequence[float]) -> str:
    spread = f" ± {100 * statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{100 * statistics.mean(values):.1f}{spread}"


def _epochs_to(group: list[Result], goal: float) -> str:
    reached = [next((row["epoch"] for row in run["history"] if row["test_accuracy"] >= goal), None) for run in group]
    return ", ".join("never" if epoch is None else f"{epoch:.0f}" for epoch in reached)


def _row(*cells: object) -> str:
    return "| " + " | ".join(map(str, cells)) + " |"
