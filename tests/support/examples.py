"""How many examples a property draws."""

from __future__ import annotations

import os

__all__ = ["PROFILE", "examples"]

PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "default")
"""The profile of hypothesis; ``deep`` draws for hours."""


def examples(count: int) -> int:
    """The number of examples for a property that is slow to check: ``count``, or many times that when deep.

    ``TZWC_TEST_FACTOR`` says how many times, by default 300.
    """
    return int(os.environ.get("TZWC_TEST_FACTOR", "300")) * count if PROFILE == "deep" else count
