"""Logs as users of ``TORCH_LOGS`` know them.

``TZWC_LOG=passes,remarks,cache`` prints, in torch's own format, what the passes cost, every remark when it is made, and
every evaluation of kept values. ``+name`` also gives details, ``-name`` errors only. ``TORCH_LOGS="tzwc"`` or
``torch._logging.set_logs(modules={"tzwc": logging.INFO})`` turn on all three.
"""

from __future__ import annotations

import difflib
import logging
import os
import warnings
from collections.abc import Iterable

from tzwc._torch.logs import has_torch_handler, print_as_torch_does, register_log
from tzwc.ir.remarks import Remark

__all__ = ["ARTIFACTS", "VARIABLE", "cache_log", "configure", "log_remarks", "passes_log", "remarks_log"]

VARIABLE = "TZWC_LOG"
ARTIFACTS = {
    "passes": "every pass with its time and the size of the graph after it",
    "remarks": "every rewrite made or declined",
    "cache": "every evaluation of kept values, and what made it necessary",
}

passes_log = logging.getLogger("tzwc.passes")
remarks_log = logging.getLogger("tzwc.remarks")
cache_log = logging.getLogger("tzwc.cache")

_LEVELS = {"+": logging.DEBUG, "-": logging.ERROR}


def log_remarks(remarks: Iterable[Remark]) -> None:
    """Log what a pass or the lowering said."""
    if remarks_log.isEnabledFor(logging.INFO):
        for remark in remarks:
            remarks_log.info("%s", remark)


def configure(text: str) -> None:
    """Turn on the logs that ``text`` names, as ``TZWC_LOG`` does; unknown names are warned about."""
    for item in filter(None, (part.strip() for part in text.split(","))):
        level = _LEVELS.get(item[0], logging.INFO)
        name = item.lstrip("+-")
        if name not in ("all", *ARTIFACTS):
            near = difflib.get_close_matches(name, ARTIFACTS, n=1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            choices = ", ".join([*ARTIFACTS, "all"])
            warnings.warn(f"{VARIABLE}={text!r}: {name!r} is unknown; choose from {choices}{hint}", stacklevel=2)
            continue
        for chosen in ARTIFACTS if name == "all" else (name,):
            _turn_on(logging.getLogger(f"tzwc.{chosen}"), level)


def _turn_on(logger: logging.Logger, level: int) -> None:
    logger.setLevel(level)
    lineage = (logger, logging.getLogger("tzwc"))
    if not any(map(has_torch_handler, lineage)):
        print_as_torch_does(logger)
        logger.propagate = False  # as torch does: the root logger would print every line again


register_log("tzwc", "tzwc")  # so that TORCH_LOGS and torch._logging know the name
configure(os.environ.get(VARIABLE, ""))
