"""The logs of ``TORCH_LOGS``."""

from __future__ import annotations

import logging
from typing import Any

from torch._logging import _internal

_logging: Any = _internal  # partly without types


def has_torch_handler(logger: logging.Logger) -> bool:
    """Whether PyTorch has set up the output of ``logger`` itself, not of its parents."""
    return any(_logging._is_torch_handler(handler) for handler in logger.handlers)


def print_as_torch_does(logger: logging.Logger) -> None:
    """Print what ``logger`` gets to the standard error, in PyTorch's format."""
    _logging._setup_handlers(logging.StreamHandler, logger)


def register_log(name: str, qualified_name: str) -> None:
    """Let ``TORCH_LOGS`` and ``torch._logging.set_logs`` know the logger ``qualified_name`` as ``name``."""
    if not _logging.log_registry.is_log(name):
        _logging.register_log(name, qualified_name)
