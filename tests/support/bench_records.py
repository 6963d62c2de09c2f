"""Records of the convolution benchmark."""

from __future__ import annotations

from typing import Any

from tzwc.bench.convolution.regret import ANCHORS


def record(measure: str, seconds: dict[str, float], skipped: dict[str, float] | None = None) -> dict[str, Any]:
    best = min(seconds, key=lambda name: seconds[name])
    row = {"seconds": seconds, "not timed": skipped or {}, "best": best, "measure": measure, "model": best}
    return row | {"again": 1.1 * seconds[measure], "anchors": dict.fromkeys(ANCHORS, "native"), "direction": "forward"}
