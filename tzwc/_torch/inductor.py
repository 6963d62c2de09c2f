"""Inductor's settings. Quick to load; :mod:`.inductor_passes` beside it takes seconds."""

from __future__ import annotations

from importlib import import_module

import torch._inductor as _inductor
from torch._inductor import config as _config

config = _config
"""All settings; ``config.patch(...)`` sets some for a block."""

list_mode_options = _inductor.list_mode_options
"""The settings behind each ``mode`` of ``torch.compile``: documented, but at home in a private module."""


def preload() -> None:
    """Import all of Inductor, so that no compilation that is measured has to wait for it."""
    import_module("torch._inductor.compile_fx")
