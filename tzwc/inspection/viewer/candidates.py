"""The candidates between which a pass chose, read from the numbers of its remarks."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from tzwc.ir.remarks import Remark

__all__ = ["choices"]

_TIME = re.compile(r"^(?:predicted_|(?P<before>measured_))?(?P<name>.+?)(?:_predicted|(?P<after>_measured))?_us$")


def choices(remarks: Sequence[Remark]) -> list[dict[str, Any]]:
    """One entry for each remark that names a ``choice`` and gives microseconds by candidate.

    ``fft_us`` and ``fft_predicted_us`` are what the cost model predicted for ``fft``, ``fft_measured_us`` (or
    ``measured_fft_us``) is what was measured.
    """
    found = []
    for index, remark in enumerate(remarks):
        candidates: dict[str, dict[str, float]] = {}
        for key, value in remark.numbers.items():
            match = _TIME.match(key)
            if match and isinstance(value, (int, float)) and not isinstance(value, bool):
                kind = "measured" if match["before"] or match["after"] else "predicted"
                candidates.setdefault(match["name"], {})[kind] = float(value)
        if candidates and "choice" in remark.numbers:
            entry = {"remark": index, "choice": str(remark.numbers["choice"]), "candidates": candidates}
            found.append(entry)
    return found
