"""``tzwc demo``: train on real images, compile, check, measure."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from tzwc import api
from tzwc.cli.demo_pictures import draw_kernels
from tzwc.data import Dataset, load
from tzwc.models import terminator
from tzwc.runtime.compiled_module import CompiledModule
from tzwc.training import Recipe, Trainer, answers
from tzwc.training.progress import Progress
from tzwc.util.console import working
from tzwc.util.timing import Timing, interleave, ratio

__all__ = ["Agreement", "Settings", "compare", "run"]

BATCH = 64
"""Images at a time, in training and in evaluation: the model standardises over its batch."""

# Eager and compiled float32 are two roundings of the same formula. Each error against float64 is a draw from the same
# distribution, and the largest of some thousands of them varies by less than this factor.
_ALLOWED = 4.0


@dataclass(frozen=True)
class Settings:
    """How the demo runs.

    Attributes:
        epochs, seconds, backend, threads, out: the options of ``tzwc demo``.
        steps: end the training after this many steps at the latest.
        rounds: of the measurement.
        factors: of the model, one for each block.
    """

    epochs: int = 10
    seconds: float | None = None
    backend: str = "inductor"
    threads: int = 1
    out: Path = Path("out/demo")
    steps: int | None = None
    rounds: int = 25
    factors: tuple[int, ...] = (12, 2, 1)

    def quickly(self) -> Settings:
        """The same with one block, next to no training and without a C++ compiler."""
        return dataclasses.replace(self, epochs=1, steps=2, rounds=2, backend="eager", factors=(12,))


@dataclass(frozen=True)
class Agreement:
    """Compiled against eager, both judged by the float64 model.

    Attributes:
        eager_error: largest distance of the eager float32 logits from the float64 logits.
        compiled_error: the same for the compiled model.
        images: how many were compared.
        same: for how many the two predict the same digit.
        undecided: for how many the float64 model prefers its first choice to the second by less than the errors, so
            that rounding may decide.
    """

    eager_error: float
    compiled_error: float
    images: int
    same: int
    undecided: int

    @property
    def holds(self) -> bool:
        """Whether the compiled model is as exact as the eager one."""
        return self.compiled_error <= _ALLOWED * self.eager_error and self.images - self.same <= self.undecided


def compare(eager: torch.Tensor, compiled: torch.Tensor, exact: torch.Tensor) -> Agreement:
    """Judge two sets of float32 logits ``(images classes)`` by float64 ones."""
    best = exact.topk(2, dim=1).values
    eager_error = (eager - exact).abs().max().item()
    compiled_error = (compiled - exact).abs().max().item()
    undecided = (best[:, 0] - best[:, 1] < 2 * max(eager_error, compiled_error)).sum().item()
    same = (eager.argmax(1) == compiled.argmax(1)).sum().item()
    return Agreement(eager_error, compiled_error, len(exact), int(same), int(undecided))


def run(settings: Settings, console: Console) -> bool:
    """Run the demo and print what it finds; whether the compiled model agrees with the eager one."""
    torch.set_num_threads(settings.threads)
    torch.manual_seed(0)
    data = load("digits")
    model = terminator("digits", factors=settings.factors)
    count = sum(parameter.numel() for parameter in model.parameters())
    console.print(f"Terminator 'digits': {count:,} parameters, {settings.threads} thread(s), torch {torch.__version__}")
    console.print(f"{len(data.train):,} images of 8×8 to train on, {len(data.test)} held out")
    recipe = Recipe(epochs=settings.epochs, batch=BATCH, lr=1e-3, warm_up=0.1 * settings.epochs, norm_penalty=0.0)
    trainer = Trainer(model, data, recipe, progress=Progress.shown())
    trainer.fit(seconds=settings.seconds, steps=settings.steps, listen=False)  # nothing is kept, so stop at once
    model.eval()
    eager_logits = answers(model, data.test, data.normalise, BATCH)
    right = (eager_logits.argmax(1) == data.test.labels).double().mean().item()
    console.print(f"trained in {trainer.seconds:.0f} s: {right:.1%} of the held-out images are right\n")

    fast = api.compile(model, backend=settings.backend)
    with working("tzwc compiles"):
        compiled_logits = answers(fast, data.test, data.normalise, BATCH)
    exact = answers(copy.deepcopy(model).double(), data.test, data.normalise, BATCH)
    agreement = compare(eager_logits, compiled_logits, exact)
    console.print(fast.report())
    _show_agreement(agreement, console)
    if not fast.specialisations:
        console.print("the model was not compiled: see the remarks above")
    fast.dump(settings.out)
    draw_kernels(model.global_kernels(), settings.out / "kernels.png")
    console.print(f"graphs after every pass, this report, and kernels.png: {settings.out}/\n")
    _show_speed(_measure(model, fast, data, settings), console)
    return agreement.holds and bool(fast.specialisations)


def _show_agreement(found: Agreement, console: Console) -> None:
    console.print(
        f"largest error of the logits, judged by the float64 model: eager {found.eager_error:.1e}, "
        f"compiled {found.compiled_error:.1e} (allowed: {_ALLOWED:g} times eager's)"
    )
    console.print(
        f"the same prediction for {found.same} of {found.images} held-out images"
        f" ({found.undecided} closer than rounding can tell)"
    )
    verdict = "[green]compiled and eager agree[/]" if found.holds else "[bold red]compiled and eager DISAGREE[/]"
    console.print(verdict)


def _measure(model: nn.Module, fast: CompiledModule, data: Dataset, settings: Settings) -> list[Timing]:
    batch = data.test.inputs[:BATCH]
    peer = torch.compile(copy.deepcopy(model), backend=settings.backend)

    def under_no_grad(module: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[], torch.Tensor]:
        def call() -> torch.Tensor:
            with torch.no_grad():
                return module(batch)

        return call

    contenders: dict[str, Callable[[torch.Tensor], torch.Tensor]]
    contenders = {"eager": model, "torch.compile": peer, "tzwc": fast}
    calls = {name: under_no_grad(module) for name, module in contenders.items()}
    with working("torch.compile compiles, to compare with"):
        calls["torch.compile"]()
    with working("measuring, in turns"):
        return interleave(calls, rounds=settings.rounds)


def _show_speed(timings: list[Timing], console: Console) -> None:
    eager = timings[0]
    table = Table(title=f"inference, batch {BATCH}, {len(eager.seconds)} rounds in turns", title_justify="left")
    table.add_column("")
    for heading in ("median", "middle half", "faster than eager"):
        table.add_column(heading, justify="right")
    for timing in timings:
        low, high = timing.quartiles
        gain = f"{ratio(eager, timing):.2f}×"
        table.add_row(timing.name, f"{timing.median * 1e3:.1f} ms", f"{low * 1e3:.1f}–{high * 1e3:.1f} ms", gain)
    console.print(table)
    console.print(f"tzwc is {ratio(timings[1], timings[2]):.2f}× as fast as torch.compile")
