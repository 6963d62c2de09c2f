"""Files as they should be, which tests damage."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np

TINY = Path(__file__).parents[1] / "fixtures" / "released_tiny.npz"


@functools.cache
def valid() -> dict[str, Any]:
    with np.load(TINY, allow_pickle=False) as file:
        found = {name: file[name] for name in file.files}
    return {name.removeprefix("state/"): value for name, value in found.items() if name.startswith("state/")} or found
