"""Paths that somebody typed, and files that somebody else may be writing to."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from pathlib import Path
from typing import Any

import platformdirs

from tzwc.errors import InvalidArgumentError
from tzwc.util.argument_checks import examined, shown

__all__ = ["LARGEST", "as_path", "cache_directory", "is_file", "is_folder", "read_whole", "why_not"]

LARGEST = 2**30
"""Bytes; no file that is read as a whole is larger."""

_WITHOUT_WAITING = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
_BLOCK = 2**20


def as_path(path: Any) -> Path:
    """``path`` as a :class:`~pathlib.Path`.

    Raises:
        InvalidArgumentError: it is neither a text nor an object that knows its path.
    """
    with examined("path"):
        if isinstance(path, (str, os.PathLike)) and isinstance(name := os.fspath(path), str):
            return Path(str.__str__(name))
    raise InvalidArgumentError(f"path = {shown(path)}: expected a pathlib.Path or a str")


def cache_directory() -> Path:
    """Where everything is kept that can be found out again: ``$TZWC_CACHE_DIR``, or the user's directory for caches.

    An absolute path. For a user without a home it is a directory for temporary files.
    """
    named = os.environ.get("TZWC_CACHE_DIR")
    if named:
        try:
            return Path(named).expanduser().absolute()
        except RuntimeError:  # "~somebody" whom nobody knows: a name as any other
            return Path(named).absolute()
    found = Path(platformdirs.user_cache_dir("tzwc", appauthor=False))
    if found.is_absolute():
        return found
    return Path(tempfile.gettempdir()) / f"tzwc-{os.getuid()}"


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


def read_whole(path: Path, largest: int = LARGEST) -> bytes:
    """The content of a regular file, at most as many bytes as it had when it was opened.

    Whatever happens to the file meanwhile: a pipe in its place is not waited for, a device or a file that grows is not
    read without end, and nothing is mapped into memory, where a file that shrinks would end the process.

    Args:
        path: of the file.
        largest: number of bytes beyond which it is refused.

    Raises:
        OSError: it cannot be read, is no regular file, or is larger than that.
        ValueError: no file can have that name.
    """
    handle = os.open(path, _WITHOUT_WAITING)
    with os.fdopen(handle, "rb", buffering=0) as file:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        if status.st_size > largest:
            raise OSError(errno.EFBIG, f"{status.st_size:,} bytes, and at most {largest:,} are read", str(path))
        content = bytearray()
        while part := file.read(min(_BLOCK, status.st_size - len(content))):
            content += part
    return bytes(content)


def why_not(error: Exception) -> str:
    """Why a file could not be read, without its name."""
    return getattr(error, "strerror", None) or str(error)
