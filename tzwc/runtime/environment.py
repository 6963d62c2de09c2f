"""What is missing on this machine, and what that costs: results never depend on it, speed does."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from tzwc.native.loader import disabled, extension
from tzwc.util.paths import cache_directory

__all__ = ["shortcomings"]

_HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def shortcomings() -> tuple[str, ...]:
    """One sentence for each thing that is missing; empty where everything is there. Builds and measures nothing."""
    found = (_native_extension(), _cache_directory(), _compiler(), _huge_pages())
    return tuple(sentence for sentence in found if sentence)


def _native_extension() -> str:
    reason = "TZWC_NATIVE=0" if disabled() else extension.failure
    if not reason:
        return ""
    return (
        f"The native extension is not there ({reason}): calls look for changes in Python, lowered graphs allocate "
        "their large buffers at every call, and products are ATen's."
    )


def _cache_directory() -> str:
    folder = cache_directory()
    nearest = next((path for path in (folder, *folder.parents) if os.path.lexists(path)), folder)
    if nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK):
        return ""
    return (
        f"{folder} cannot be written to: measurements are not remembered, and every process repeats them; "
        "name another folder in TZWC_CACHE_DIR."
    )


def _compiler() -> str:
    default = {"win32": "cl", "darwin": "clang++"}.get(sys.platform, "g++")
    wanted = os.environ.get("CXX") or default
    if shutil.which(wanted):
        return ""
    return (
        f"There is no C++ compiler {wanted!r}: graphs for the CPU that are not in Inductor's cache yet run operator by "
        f"operator; install {default}, or name a compiler in CXX."
    )


def _huge_pages() -> str:
    if not sys.platform.startswith("linux"):
        return ""
    try:
        setting = _HUGE_PAGES.read_text()
    except OSError:  # a kernel or a container without them
        setting = "[never]"
    if "[never]" not in setting:
        return ""
    return (
        "The system gives no huge pages, and large intermediate results cost more page faults; "
        f"where you may, write madvise to {_HUGE_PAGES}."
    )
