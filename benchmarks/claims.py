"""What the paper claims, put to the test on data that need no network; everything in docs/claims.md comes from here.

python benchmarks/claims.py                 # train what is missing, then tables and pictures; Ctrl-C and again: goes on
python benchmarks/claims.py --only-report   # tables and pictures from what there is
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import torch
from claims_models import ABLATIONS, BASELINES, LOW_FREQUENCY, contender
from claims_report import report
from torch import Tensor, nn

from tzwc.data import Dataset, load
from tzwc.models import Terminator
from tzwc.models.spec import Resample
from tzwc.training import Checkpoint, Interrupted, Trainer, evaluate
from tzwc.training.progress import Progress

ROOT = Path(__file__).parents[1]
TASKS = ("digits", "sdigits", "pdigits", "mnist1d")
_BINS = 60


@dataclass(frozen=True)
class Cell:
    """One run: a contender on a task with a seed."""

    task: str
    name: str
    seed: int

    @property
    def key(self) -> str:
        """Name of its folder."""
        return f"{self.task}-{self.name.replace(' ', '_')}-{self.seed}"


def main() -> int:
    """Run what is missing, and write the report; 130 after Ctrl-C."""
    options = parse()
    torch.set_num_threads(options.threads)
    if not options.only_report:
        cells = list(plan(options.seeds, options.ablation_seeds))
        begin = time.perf_counter()
        for number, cell in enumerate(cells, start=1):
            spent = (time.perf_counter() - begin) / 60
            title = f"[{number}/{len(cells)}, {spent:.1f} min] {cell.key}"
            try:
                run(cell, options.out, options.epochs, options.blocks, title)
            except Interrupted as stopped:
                print(f"{stopped}; the same command goes on", file=sys.stderr)
                return 128 + stopped.number
            except KeyboardInterrupt:
                print("stopped; the same command goes on from the last epoch", file=sys.stderr)
                return 130
    if options.out.is_dir():
        resolutions(options.out)
    report(options.out, options.docs)
    return 0


def plan(seeds: int, ablation_seeds: int) -> Iterator[Cell]:
    """All runs, so ordered that a run that is stopped early can say something about everything.

    A seed of the contenders, one of the ablations, and so on.
    """
    for seed in range(max(seeds, ablation_seeds)):
        if seed < seeds:
            for task in TASKS:
                for name in ("Terminator", *BASELINES):
                    yield Cell(task, name, seed)
        if seed < ablation_seeds:
            for name in ABLATIONS:
                yield Cell("digits", name, seed)


def run(cell: Cell, out: Path, epochs: int, blocks: int, title: str) -> None:
    """Train one cell, or what is left of it, and write ``result.json``."""
    folder = out / cell.key
    if (folder / "result.json").exists():
        return
    data = load(cell.task)
    chosen = contender(cell.name, data, epochs, cell.seed, blocks)
    # Processor time: a machine's other work, or a pause, does not count.
    trainer = Trainer(
        chosen.model, data, chosen.recipe, folder=folder, progress=Progress.shown(title), clock=time.process_time
    )
    if (folder / "last.safetensors").exists():
        trainer.resume(Checkpoint.load(folder))
    pictured = cell.seed == 0 and cell.name == "Terminator"
    features: dict[str, Any] = {}
    path = folder / "features.json"
    if path.exists():
        features = json.loads(path.read_text())

    def observe(now: Trainer) -> None:
        epoch = round(now.step / now.steps_per_epoch)
        features[str(epoch)] = describe(chosen.model, data)
        path.write_text(json.dumps(features))
        if pictured:
            draw_state(chosen.model, data, folder / f"kernels-{epoch}.json")

    if not features:
        folder.mkdir(parents=True, exist_ok=True)
        features["0"] = describe(chosen.model, data)
        path.write_text(json.dumps(features))
        if pictured:
            draw_state(chosen.model, data, folder / "kernels-0.json")
    elif trainer.step % trainer.steps_per_epoch == 0:
        observe(trainer)  # it may have been ended between the checkpoint and this
    trainer.fit(after_epoch=observe)
    result = {
        "task": cell.task,
        "name": cell.name,
        "seed": cell.seed,
        "parameters": sum(parameter.numel() for parameter in chosen.model.parameters()),
        "history": trainer.history,
        "features": features,
    }
    (folder / "result.json").write_text(json.dumps(result))


def resolutions(out: Path) -> None:
    """Evaluate two trained models on finer grids, where they have been trained, and write ``resolution.json``."""
    found = []
    data = load("digits")
    for name, omega_0 in (("Terminator", 2000.0), ("low_frequency", LOW_FREQUENCY)):
        folder = out / f"digits-{name}-0"
        if not (folder / "result.json").exists():
            continue
        saved = Checkpoint.load(folder)
        model = saved.model()
        trained = evaluate(model, data.test, data.normalise).accuracy
        for kernels in get_args(Resample):
            entry = {"omega_0": omega_0, "trained": trained, "kernels": kernels}
            for size in (12, 16):
                larger = model.at_resolution((size, size), kernels=kernels)
                entry[str(size)] = evaluate(larger, data.resized((size, size)).test, data.normalise).accuracy
            found.append(entry)
    (out / "resolution.json").write_text(json.dumps(found))


def outputs(model: nn.Module, data: Dataset) -> tuple[list[Tensor], list[tuple[Any, ...]]]:
    """The outputs of every block for the first 64 held-out samples, and what every block was given."""
    found: list[Tensor] = []
    given: list[tuple[Any, ...]] = []

    def note(_block: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
        given.append(args)
        found.append(output)

    training = model.training
    model.eval()
    hooks = [block.register_forward_hook(note) for block in model.blocks]
    try:
        with torch.no_grad():
            model(data.normalise(data.test.inputs[:64]))
    finally:
        for hook in hooks:
            hook.remove()
        model.train(training)
    return found, given


def describe(model: nn.Module, data: Dataset) -> list[dict[str, Any]]:
    """Mean, spread and histogram of every block's output."""
    described = []
    for values in outputs(model, data)[0]:
        channels = values.mean((0, *range(2, values.ndim)))
        low, high = -4.0, 8.0
        described.append(
            {
                "mean": values.mean().item(),
                "std": values.std(unbiased=False).item(),
                "channel_means": channels.std(unbiased=False).item(),
                "histogram": torch.histc(values, _BINS, low, high).div(values.numel()).tolist(),
                "range": [low, high],
            }
        )
    return described


def draw_state(model: nn.Module, data: Dataset, path: Path) -> None:
    """Keep the first channels of the global and of one sample's context-dependent kernels, for pictures."""
    assert isinstance(model, Terminator)
    kept = []
    for x, kernel, *_ in outputs(model, data)[1]:
        weight = x[:1] * kernel
        kept.append({"global": kernel[0, :6].tolist(), "context": weight[0, :6].tolist()})
    path.write_text(json.dumps(kept))


def parse() -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "claims", help="checkpoints, logs and results")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs", help="where claims.md and its pictures are")
    parser.add_argument("--epochs", type=int, default=20, metavar="N")
    parser.add_argument("--blocks", type=int, default=2, metavar="N", help="of the Terminator")
    parser.add_argument("--seeds", type=int, default=3, metavar="N")
    parser.add_argument("--ablation-seeds", type=int, default=3, metavar="N")
    parser.add_argument("--threads", type=int, default=1, metavar="N")
    parser.add_argument("--only-report", action="store_true", help="train nothing")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
