"""``python -m tests.faults``: draw faults, look whether the tests find them, write a table."""

from __future__ import annotations

import argparse
import hashlib
import importlib
import json
import random
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, settings

from tests.faults.mutations import Fault, faults_in
from tests.faults.runs import Outcome, Recorded, copy_repository, record, run_tests
from tests.faults.targets import TARGETS, sources, test_files

# Imported once, before all forks: nearly all of the time that a test run takes to start.
_HEAVY = ("torch", "torch._dynamo", "torch.export", "einops", "networkx", "sympy", "typer", "rich", "numpy")


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit with 1 when fewer than 95 % are found."""
    options = _parser().parse_args(arguments)
    texts = sources()
    drawn = _draw(texts, options.seed, options.count, options.only)
    part, parts = map(int, options.part.split("/"))
    drawn = drawn[part::parts]
    if options.list:
        for fault in drawn:
            print(_headline(fault))
        return 0
    for name in _HEAVY:
        importlib.import_module(name)
    # One failing example is enough; it need not be small, and the next run is to draw the same ones.
    phases = [Phase.explicit, Phase.generate]
    checks = list(HealthCheck)
    settings.register_profile("faults", deadline=None, derandomize=True, phases=phases, suppress_health_check=checks)
    with tempfile.TemporaryDirectory(prefix="tzwc-faults-") as folder:
        root = Path(folder).resolve()
        copy_repository(root)
        tests = _recorded(root, texts, options.recorded)
        results = [(fault, _try(root, fault, texts[fault.path], tests)) for fault in drawn]
    text = _table(results, options)
    Path(options.out).write_text(text)
    print(text.partition("\n\n")[0])
    return int(sum(bool(o.test) for _, o in results) < 0.95 * len(results))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--only", default="", help="draw as always, keep those whose line in --list contains this")
    parser.add_argument("--part", default="0/1", help="1/3: of each three drawn the second, to run side by side")
    parser.add_argument("--list", action="store_true", help="draw only")
    parser.add_argument("--out", default="out/faults.md", help="the table")
    parser.add_argument("--recorded", type=Path, help="a file that keeps what tests execute for the next run")
    return parser


def _draw(texts: Mapping[str, str], seed: int, count: int, only: str) -> list[Fault]:
    everything = [fault for path, text in texts.items() for fault in faults_in(path, text)]
    drawn = random.Random(seed).sample(everything, min(count, len(everything)))
    return [fault for fault in drawn if only in _headline(fault)]


def _recorded(root: Path, texts: Mapping[str, str], keep: Path | None) -> dict[str, Recorded]:
    """What each test executes; taken from ``keep`` for test files that have not changed since, as long as nothing of
    the faultless program has."""
    stamps = {name: _digest(*texts.values(), (root / name).read_text()) for name in test_files()}
    known: dict[str, dict[str, Any]] = json.loads(keep.read_text()) if keep is not None and keep.exists() else {}
    missing = [name for name, stamp in stamps.items() if stamp not in known]
    if missing:
        fresh = record(root, missing, list(TARGETS))
        known |= {stamps[f]: {n: asdict(t) for n, t in fresh.items() if n.partition("::")[0] == f} for f in missing}
        if keep is not None:
            keep.write_text(json.dumps(known))
    return {name: Recorded(**test) for stamp in stamps.values() for name, test in known[stamp].items()}


def _digest(*texts: str) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()


def _try(root: Path, fault: Fault, text: str, tests: Mapping[str, Recorded]) -> Outcome:
    place = root / fault.path
    place.write_text(fault.put_into(text))
    for compiled in (place.parent / "__pycache__").glob(f"{place.stem}.*"):
        compiled.unlink()
    begun = time.monotonic()
    outcome = run_tests(root, _belonging(fault, tests))
    place.write_text(text)
    verdict = f"caught by {outcome.test}" if outcome.test else "SURVIVED"
    print(f"{_headline(fault)}: {verdict} ({time.monotonic() - begun:.0f} s)", file=sys.stderr, flush=True)
    return outcome


def _belonging(fault: Fault, tests: Mapping[str, Recorded]) -> dict[str, float]:
    """Tests of the table that execute the place of the fault; where none does, that execute anything of its file."""

    def executes(test: Recorded) -> bool:
        lines = test.lines.get(fault.path, ())
        return any(line in fault.lines for line in lines)

    files = TARGETS[fault.path]
    whole = {n: t for n, t in tests.items() if n.partition("::")[0] in files and t.lines.get(fault.path)}
    chosen = {n: t for n, t in whole.items() if executes(t)}
    return {n: t.seconds for n, t in (chosen or whole).items()}  # a function may be called at import, and only there


def _headline(fault: Fault) -> str:
    return f"{fault.path}:{fault.line} {fault.kind}: {_short(fault.before)} -> {_short(fault.after)}"


def _short(text: str) -> str:
    words = " ".join(text.split())
    return words if len(words) <= 90 else f"{words[:60]} … {words[-25:]}"


def _table(results: Sequence[tuple[Fault, Outcome]], options: argparse.Namespace) -> str:
    missed = [fault for fault, outcome in results if not outcome.test]
    found = len(results) - len(missed)
    drawn = f"seed {options.seed}, count {options.count}, part {options.part}"
    lines = [
        f"{found} of {len(results)} faults found ({drawn}); survivors:",
        *(f"- {_headline(fault)}" for fault in missed),
        "",
        "| place | fault | before | after | found by | how |",
        "|---|---|---|---|---|---|",
    ]
    for fault, outcome in results:
        cells = (f"{fault.path}:{fault.line}", fault.kind, f"`{_short(fault.before)}`", f"`{_short(fault.after)}`")
        verdict = (outcome.test, _short(outcome.why)) if outcome.test else ("**survived**", "")
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in (*cells, *verdict)) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
