"""Numbers with units, short enough for a table cell."""

from __future__ import annotations

__all__ = ["count", "flops", "seconds", "size"]


def count(number: int, singular: str = "", plural: str | None = None) -> str:
    """``2,745 nodes``: thousands separated, the noun in the right number."""
    noun = singular if number == 1 else (plural or f"{singular}s" if singular else "")
    return f"{number:,} {noun}".rstrip()


def size(nbytes: float) -> str:
    """Bytes in binary units: ``3.2 MiB``; beyond all sense, ``1.2e+30 PiB``."""
    value, unit = float(nbytes), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB", "PiB"):
        if abs(value) < 1024:
            break
        value, unit = value / 1024, larger
    if abs(value) >= 1e6:
        return f"{value:.1e} {unit}"
    return f"{value:.0f} B" if unit == "B" else f"{value:,.1f} {unit}"


def seconds(value: float) -> str:
    """A duration from microseconds up to minutes: ``12.3 ms``."""
    if value == 0:
        return "0 s"
    for limit, factor, unit in ((1e-3, 1e6, "µs"), (1.0, 1e3, "ms"), (120.0, 1.0, "s")):
        if abs(value) < limit:
            return f"{value * factor:.3g} {unit}"
    return f"{value / 60:.1f} min"


def flops(value: float) -> str:
    """Floating-point operations: ``1.2 GFLOP``."""
    for limit, factor, unit in ((1e6, 1e-3, "kFLOP"), (1e9, 1e-6, "MFLOP"), (1e12, 1e-9, "GFLOP")):
        if abs(value) < limit:
            return f"{value * factor:.3g} {unit}"
    return f"{value * 1e-12:.3g} TFLOP"
