"""Paths that somebody typed: ``pathlib`` raises where a name is too long or holds what no name may."""

from __future__ import annotations

from pathlib import Path

__all__ = ["is_file", "is_folder"]


def is_file(path: Path) -> bool:
    """Whether there is a file called ``path``; of a name that the system refuses there is none."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def is_folder(path: Path) -> bool:
    """Whether there is a folder called ``path``; of a name that the system refuses there is none."""
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False
