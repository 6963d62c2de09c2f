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
_GOALS = {"mnist1d": (0.6, 0.8, 0.9)}
_USUAL_GOALS = (0.8, 0.9, 0.95)
_TITLES = {
    "digits": ("8×8 images (2-D)", "384 held-out images"),
    "sdigits": ("sequences of 64 pixels (1-D)", "384 held-out images"),
    "pdigits": ("the same pixels in one random order (1-D)", "384 held-out images"),
    "mnist1d": ("MNIST-1D, sequences of 40 values", "1,000 held-out sequences"),
}

Result = dict[str, Any]


def report(out: Path, docs: Path) -> None:
    """Write tables, pictures and the record of all results in ``out``; without any there, from the record."""
    pictures = docs / "claims"
    pictures.mkdir(parents=True, exist_ok=True)
    record = pictures / "results.json"
    results = [json.loads(path.read_text()) for path in sorted(out.glob("*/result.json"))]
    if results:
        resolution = out / "resolution.json"
        other = json.loads(resolution.read_text()) if resolution.exists() else []
        _write_record(record, results, other)
    elif record.exists():
        kept = json.loads(record.read_text())
        results, other = kept["runs"], kept["resolution"]
    else:
        print(f"{out}: no results yet")
        return
    runs: dict[tuple[str, str], list[Result]] = defaultdict(list)
    for result in results:
        runs[result["task"], result["name"]].append(result)
    draw_curves(runs, ("Terminator", *BASELINES), pictures / "curves.png")
    draw_features(runs, pictures / "features.png")
    draw_kernel_states(out, pictures)
    text = "\n".join([_BEGIN, "", *_lines(runs, other), "", _END])
    page = docs / "claims.md"
    old = page.read_text(encoding="utf-8") if page.exists() else f"{_BEGIN}\n{_END}\n"
    before, rest = old.split(_BEGIN, 1)
    page.write_text(before + text + rest.split(_END, 1)[1], encoding="utf-8")
    print(f"{page}: {len(results)} runs; pictures in {pictures}/")


def _write_record(path: Path, results: list[Result], resolution: list[dict[str, Any]]) -> None:
    """Keep what tables and curves need; histograms of the Terminator alone, which are the ones that are drawn."""
    runs = []
    for result in results:
        kept = result["name"] == "Terminator" and result["seed"] == 0
        features = {
            epoch: [{k: v for k, v in block.items() if kept or k in ("mean", "std")} for block in blocks]
            for epoch, blocks in result["features"].items()
        }
        runs.append({**result, "features": features})
    content = json.dumps({"runs": runs, "resolution": resolution}, default=str)
    rounded = json.loads(content, parse_float=lambda text: float(f"{float(text):.4g}"))
    # A line a run: a change of one can be seen.
    lines = ",\n".join(json.dumps(run) for run in rounded["runs"])
    path.write_text(f'{{"resolution": {json.dumps(rounded["resolution"])},\n"runs": [\n{lines}\n]}}\n')


def _lines(runs: dict[tuple[str, str], list[Result]], resolution: list[dict[str, Any]]) -> Iterator[str]:
    for task, (title, held_out) in _TITLES.items():
        rows = [(name, runs[task, name]) for name in ("Terminator", *BASELINES) if (task, name) in runs]
        if not rows:
            continue
        epochs = len(rows[0][1][0]["history"])
        shown = sorted({min(epoch, epochs) for epoch in (1, 2, 5, epochs)})
        yield f"**{title}**, {epochs} epochs; accuracy on {held_out}, mean ± deviation over the seeds:"
        yield ""
        goals = _goals(task)
        heads = [f"epochs to {goal:.0%}" for goal in goals]
        yield _row("", "seeds", "parameters", *[f"epoch {epoch}" for epoch in shown], *heads)
        yield _row("---", *["---:"] * (2 + len(shown) + len(goals)))
        for name, group in rows:
            accuracy = [[_at(run, epoch) for run in group] for epoch in shown]
            reached = [_first(group, goal, "epoch") for goal in goals]
            yield _row(name, len(group), f"{group[0]['parameters']:,}", *map(_percent, accuracy), *reached)
        yield ""
    yield from _by_second(runs)
    yield from _ablations(runs)
    yield from _features(runs)
    if resolution:
        yield from _resolution(resolution)


def _by_second(runs: dict[tuple[str, str], list[Result]]) -> Iterator[str]:
    tasks = [task for task in _TITLES if (task, "Terminator") in runs]
    yield "**By second** of processor time in training, one thread: an epoch (median), and how long to an accuracy:"
    yield ""
    yield _row("", *[cell for task in tasks for cell in (f"{task}: an epoch", f"to {_goals(task)[1]:.0%}")])
    yield _row("---", *["---:"] * (2 * len(tasks)))
    for name in ("Terminator", *BASELINES):
        cells: list[str] = []
        for task in tasks:
            group = runs.get((task, name), [])
            times = [time for run in group for time in _epoch_seconds(run)]
            cells += (
                [f"{statistics.median(times):.2f}", _first(group, _goals(task)[1], "seconds")] if times else [""] * 2
            )
        yield _row(name, *cells)
    yield ""


def _goals(task: str) -> tuple[float, ...]:
    return _GOALS.get(task, _USUAL_GOALS)


def _ablations(runs: dict[tuple[str, str], list[Result]]) -> Iterator[str]:
    base = {run["seed"]: run for run in runs.get(("digits", "Terminator"), [])}
    found = [(name, runs["digits", name]) for name in ABLATIONS if ("digits", name) in runs]
    if not base or not found:
        return
    yield "**What a part is worth**: Terminator on images, difference to the whole model with the same seed, in points:"
    yield ""
    yield _row("", "seeds", "parameters", "epoch 2", "last epoch", "held-out loss, last epoch")
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
    """Held-out accuracy after so many epochs, or after the last one: of a shorter run, and for -1."""
    rows = run["history"]
    return float(rows[min(epoch, len(rows)) - 1 if epoch > 0 else -1]["test_accuracy"])


def _epoch_seconds(run: Result) -> list[float]:
    times = [0.0, *(float(row["seconds"]) for row in run["history"])]
    return [after - before for before, after in itertools.pairwise(times)]


def _percent(values: Sequence[float]) -> str:
    spread = f" ± {100 * statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{100 * statistics.mean(values):.1f}{spread}"


def _first(group: list[Result], goal: float, unit: str) -> str:
    """When every run first had an accuracy of ``goal``, in ``unit``."""
    reached = [next((row[unit] for row in run["history"] if row["test_accuracy"] >= goal), None) for run in group]
    digits = 1 if unit == "seconds" else 0
    return ", ".join("never" if when is None else f"{when:.{digits}f}" for when in reached)


def _row(*cells: object) -> str:
    return "| " + " | ".join(map(str, cells)) + " |"
