"""The tables that ``tzwc bench`` prints for people."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tzwc.bench.cache.cache import CacheBench, Contender, PresetBench, facts
from tzwc.util.timing import Timing

__all__ = ["show_cache"]


def show_cache(bench: CacheBench, console: Console) -> None:
    """Print what was measured."""
    console.print(", ".join(f"{name} {value}" for name, value in facts(bench.request).items()))
    console.print()
    console.print("the check at every call, in µs: median (shortest)")
    console.print(_checks(bench))
    console.print("sum: guard, layout and cache; call: all that surrounds the compiled code\n")
    console.print("inference, contenders in turns")
    console.print(_contenders(bench))
    for preset in bench.presets:
        for cell in preset.cells:
            for contender in cell.contenders:
                if contender.error:
                    console.print(f"{preset.preset}, batch {cell.batch}, {contender.name}: {escape(contender.error)}")


def _checks(bench: CacheBench) -> Table:
    table = Table()
    table.add_column("")
    for preset in bench.presets:
        table.add_column(preset.preset, justify="right")
    rows = [_check_column(preset) for preset in bench.presets]
    for name in rows[0]:
        table.add_row(name, *(row[name] for row in rows))
    return table


def _check_column(preset: PresetBench) -> dict[str, str]:
    check = preset.check
    column = {
        "parameters": f"{check.parameters:,}",
        "slots, watched": f"{check.slots:,}, {check.watched:,}",
        "kept values": f"{check.kept:,}",
        "bytes kept": f"{check.kept_bytes:,}",
        "native watch": _yes(check.native),
        "guard": _micro(check.guard),
        "layout": _micro(check.layout),
    }
    for kind, timing in check.cache.items():
        column[f"cache, {kind}"] = _micro(timing)
    for kind in check.cache:
        column[f"sum, {kind}"] = f"{check.total(kind) * 1e6:.0f} ({check.least(kind) * 1e6:.0f})"
    for kind, timing in check.call.items():
        column[f"call, {kind}"] = _micro(timing)
    return column


def _contenders(bench: CacheBench) -> Table:
    table = Table()
    table.add_column("model")
    table.add_column("batch", justify="right")
    table.add_column("")
    for heading in ("median", "middle half", "eager ÷ it", "first call", "like eager", "right after a step"):
        table.add_column(heading, justify="right")
    for preset in bench.presets:
        for cell in preset.cells:
            eager = next((c.timing for c in cell.contenders if c.name == "eager"), None)
            for contender in cell.contenders:
                table.add_row(preset.preset, str(cell.batch), contender.name, *_figures(contender, eager))
            table.add_section()
    return table


def _figures(contender: Contender, eager: Timing | None) -> list[str]:
    timing, fresh = contender.timing, contender.freshness
    if timing is None or fresh is None:
        return ["failed", "", "", f"{contender.first_call:.1f} s", "", ""]
    low, high = timing.quartiles
    return [
        f"{timing.median * 1e3:.2f} ms",
        f"{low * 1e3:.2f}–{high * 1e3:.2f} ms",
        "" if eager is None else f"{eager.median / timing.median:.2f}×",
        f"{contender.first_call:.1f} s",
        _yes(fresh.right_before),
        _yes(fresh.right_after),
    ]


def _micro(timing: Timing) -> str:
    return f"{timing.median * 1e6:.0f} ({min(timing.seconds) * 1e6:.0f})"


def _yes(truth: bool) -> str:
    return "yes" if truth else "[bold red]no[/]"
