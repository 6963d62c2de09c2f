"""The GPU's tests, then eager, ``torch.compile`` in its modes and tzwc on it, as a table in Markdown.

``python benchmarks/gpu.py [--device cpu] [--presets P,…] [--seconds 480] [--out FILE]``, or ``make gpu``.

It ends within ``--seconds``: cells come in order of importance, every process is killed at its deadline, and what found
no time is named. Exit code 2 without a GPU, 1 if tests failed or nothing was measured.
"""

from __future__ import annotations

import argparse
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tzwc.bench.devices import DeviceError, check_device, name_of
from tzwc.bench.model.cells import Cell, Contender, Plan
from tzwc.bench.model.run import Request, run
from tzwc.bench.model.targets import PRECISIONS
from tzwc.errors import TzwcError
from tzwc.util.console import working

CONTENDERS = ("eager", "compile", "tzwc", "reduce_overhead", "max_autotune")
_TITLES = {
    "compile": "torch.compile",
    "reduce_overhead": "torch.compile, reduce-overhead",
    "max_autotune": "torch.compile, max-autotune",
}
_BATCHES = {"inference": 64, "training": 16}
_TESTS = 0.25  # of the time, at most
_CELL = 120.0  # seconds: first calls of five contenders and the reference, where compiling takes as long as it does
_LEAST = 20.0  # seconds: imports alone take a good part of it
_ROOT = Path(__file__).parents[1]
_HEAD = "| model | batch | mode | precision | contender | ms | eager ÷ it | first call, s | peak, MB | error | remark |"


@dataclass(frozen=True)
class Options:
    """What to do.

    Attributes:
        device: ``cuda``, or ``cpu`` to try everything out.
        presets: models, the most important one first.
        contenders: see :func:`tzwc.bench.model.contenders.choose`.
        backend: of all that compile.
        batch: first size of inputs; by default 64 in inference and 16 in training.
        seconds: of everything.
        rounds: of each measurement.
        tests: whether to run the tests.
        out: a file for the table as well.
    """

    device: str = "cuda"
    presets: tuple[str, ...] = ("cifar10", "smnist")
    contenders: tuple[str, ...] = CONTENDERS
    backend: str = "inductor"
    batch: int | None = None
    seconds: float = 480.0
    rounds: int = 15
    tests: bool = True
    out: Path | None = None


def plans(options: Options) -> list[Plan]:
    """The most important cell first: float32 before bfloat16, inference before training."""
    return [
        Plan(preset, options.batch or batch, mode, precision)
        for precision in PRECISIONS
        for mode, batch in _BATCHES.items()
        for preset in options.presets
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Test, measure, print; the exit code."""
    end, options = time.monotonic(), _parsed(arguments)
    end += options.seconds
    try:
        check_device(options.device)
        for plan in plans(options):
            _request(plan, options, 1.0)
    except DeviceError:
        print("There is no CUDA GPU here that PyTorch can use; --device cpu tries everything out.", file=sys.stderr)
        return 2
    except TzwcError as error:
        print(error, file=sys.stderr)
        return 2
    failed, said = False, "not run"
    if options.tests:
        with working("pytest -m gpu"):
            failed, said = run_tests(_TESTS * options.seconds)
    cells: list[Cell] = []
    for line in report(options, end, said, cells):
        print(line, flush=True)
        if options.out is not None:
            with options.out.open("a", encoding="utf-8") as out:
                out.write(line + "\n")
    return int(failed or not any(contender.timing for cell in cells for contender in cell.contenders))


def report(options: Options, end: float, tests: str, cells: list[Cell]) -> Iterator[str]:
    """The lines, each as soon as it is known.

    Args:
        options: what to measure.
        end: by ``time.monotonic``.
        tests: what they said.
        cells: gets those that were measured.
    """
    yield f"`{name_of(options.device)}`; GPU tests: {tests}\n"
    yield _HEAD
    yield "|---|---:|---|---|---|---:|---:|---:|---:|---:|---|"
    skipped = []
    for plan in plans(options):
        budget = min(_CELL, end - time.monotonic())
        if budget < _LEAST:
            skipped.append(str(plan))
            continue
        cells += run(_request(plan, options, budget)).cells
        yield from rows(cells[-1])
    yield (
        "\nMedians of interleaved calls. Peak: the most memory of calls after the first. Error: distance from float64, "
        "as a part of what rounding explains (four times eager's own on a CPU in that precision); more than 1 is wrong."
    )
    if skipped:
        yield "\nSkipped, no time was left: " + "; ".join(skipped) + "."


def rows(cell: Cell) -> Iterator[str]:
    """The lines of one cell, one for each contender."""
    plan = cell.plan
    eager = next((c.timing for c in cell.contenders if c.name == "eager"), None)
    for contender in cell.contenders:
        timing = contender.timing
        shown = [
            plan.target,
            str(plan.batch),
            plan.mode,
            plan.precision,
            _TITLES.get(contender.name, contender.name),
            "" if timing is None else f"{timing.median * 1e3:.3g}",
            "" if timing is None or eager is None else f"{eager.median / timing.median:.2f}",
            "" if contender.first_call is None else f"{contender.first_call:.1f}",
            "" if contender.memory is None else f"{contender.memory / 1e6:.0f}",
            _error(cell, contender),
            " ".join(_remark(cell, contender).replace("|", "\\|").split()),
        ]
        yield f"| {' | '.join(shown)} |"


def _error(cell: Cell, contender: Contender) -> str:
    if not contender.distances or not cell.yard.allowed:
        return ""
    worst = max(contender.distances.get(name, math.inf) / allowed for name, allowed in cell.yard.allowed.items())
    return f"{worst:.2g}"


def _remark(cell: Cell, contender: Contender) -> str:
    if contender.error:
        return f"**failed**: {contender.error}"
    if cell.agrees(contender) is False:
        return "**wrong**"
    return f"no reference: {cell.yard.error}" if cell.yard.error and not cell.yard.allowed else contender.note


def run_tests(seconds: float, arguments: Sequence[str] = ("-m", "gpu", "tests")) -> tuple[bool, str]:
    """Run pytest in a process group that is killed after so long; whether it failed, and its last line."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as log:
        process = subprocess.Popen(
            command, cwd=_ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
        try:
            code: int | None = process.wait(seconds)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        log.seek(0)
        text = log.read()
    last = (text.strip().splitlines() or ["nothing was said"])[-1].strip("= ")
    if code is None:
        return True, f"not done within {seconds:g} s"
    if code:
        print(text, file=sys.stderr)
    return code != 0, last if code in (0, 1) else f"pytest ended with exit code {code}: {last}"


def _request(plan: Plan, options: Options, budget: float) -> Request:
    return Request(
        (plan.target,),
        (plan.batch,),
        (plan.mode,),
        backend=options.backend,
        contenders=options.contenders,
        rounds=options.rounds,
        device=options.device,
        precision=plan.precision,
        budget=budget,
    )


def _parsed(arguments: Sequence[str] | None) -> Options:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Options()
    parser.add_argument("--device", choices=("cuda", "cpu"), default=default.device)
    parser.add_argument("--presets", type=_names, default=default.presets)
    parser.add_argument("--contenders", type=_names, default=default.contenders)
    parser.add_argument("--backend", default=default.backend)
    parser.add_argument("--batch", type=int)
    parser.add_argument("--seconds", type=float, default=default.seconds, help="of everything; by default 480")
    parser.add_argument("--rounds", type=int, default=default.rounds)
    parser.add_argument("--no-tests", dest="tests", action="store_false")
    parser.add_argument("--out", type=Path, help="a file for the table as well")
    return Options(**vars(parser.parse_args(arguments)))


def _names(text: str) -> tuple[str, ...]:
    return tuple(filter(None, text.split(",")))


if __name__ == "__main__":
    sys.exit(main())
