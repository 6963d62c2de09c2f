"""Measurements that outlive the process: one small JSON file for each, in the user's cache directory.

``TZWC_CACHE_DIR`` names another directory; without it, it is the one that the operating system has for caches
(``~/.cache/tzwc`` on Linux). The files lie in its folder ``tuning``.

An entry is written to a temporary file beside it and renamed, so that a reader sees the old one, the new one or none,
and the last of several writers wins. It holds the whole key that its name is a digest of, which is compared on reading.
Whatever cannot be read as an entry of this version is a miss, with one warning, and is replaced by the next writer.
A directory that cannot be written to is said once; everything works, and nothing is remembered.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import re
import stat
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from tzwc.util.paths import cache_directory, read_whole

__all__ = ["SCHEMA", "Entry", "Fact", "Kind", "Store", "TuningWarning", "seconds_of"]

Fact = Literal["choice", "product"]
Kind = Literal["calibration", "choice", "product", "doubt"]
SCHEMA = 1
"""Of everything that :mod:`tzwc.autotune` writes; a file with another number is not read."""

LARGEST = 16 * 2**20
"""Bytes; a larger file is none of ours."""

_FORMAT = "tzwc tuning"
_NAME = re.compile(rf"({'|'.join(get_args(Kind))})-[0-9a-f]{{32}}\.json")
_TEMPORARY = re.compile(rf"\.({'|'.join(get_args(Kind))})-[0-9a-f]{{32}}\..*\.part")

_said: set[str] = set()
_lock = threading.Lock()


class TuningWarning(UserWarning):
    """Something about remembered measurements is not as it should be; results are not affected."""


@dataclass(frozen=True)
class Entry:
    """One file of a store.

    Attributes:
        path: where it is.
        kind: what its name says it holds.
        bytes: its size.
        written: seconds since 1970.
        key: what it is about; ``None`` when the file cannot be read.
    """

    path: Path
    kind: str
    bytes: int
    written: float
    key: dict[str, Any] | None

    def to_dict(self) -> dict[str, Any]:
        """JSON-safe."""
        when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.written))
        return {"path": str(self.path), "kind": self.kind, "bytes": self.bytes, "written": when, "key": self.key}


class Store:
    """Remembered measurements.

    Args:
        folder: where the files lie; by default ``tuning`` in :func:`tzwc.util.paths.cache_directory`. Made when it is
            first needed.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = cache_directory() / "tuning" if folder is None else folder

    @property
    def lock(self) -> Path:
        """The file that processes of this host lock to measure one after the other; beside the folder."""
        host = re.sub(r"[^\w.-]", "_", platform.node())
        return self.folder.with_name(f"{self.folder.name}-{host}.lock")

    def name(self, kind: Kind, key: Mapping[str, Any]) -> str:
        """The file for ``key``."""
        return str(self._path(kind, key))

    def get(self, kind: Kind, key: Mapping[str, Any]) -> Any:
        """What was put under ``key``, or ``None``: nothing was, or it cannot be read."""
        path = self._path(kind, key)
        try:
            text = _read(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError) as error:
            _warn(path, f"{path} cannot be read ({error}) and counts as missing")
            return None
        found = _parse(text)
        if isinstance(found, str):
            _warn(path, f"{path} {found}; it counts as missing and will be replaced")
            return None
        if found["key"] != _plain(key) or found.get("kind") != kind:
            _warn(path, f"{path} is about something else than its name says; it counts as missing")
            return None
        return found["value"]

    def put(self, kind: Kind, key: Mapping[str, Any], value: Any) -> bool:
        """Remember ``value`` (of what JSON has) under ``key``; ``False`` when it cannot be written, said once.

        Raises:
            TypeError, ValueError: JSON does not have ``key`` or ``value``.
        """
        path = self._path(kind, key)
        entry = {"format": _FORMAT, "schema": SCHEMA, "kind": kind, "key": _plain(key), "value": value}
        text = json.dumps(entry, allow_nan=False, separators=(",", ":"))
        try:
            self._write(path, text)
        except OSError as error:
            _warn(self.folder, f"{self.folder} cannot be written to ({error}): measurements are not remembered")
            return False
        return True

    def _write(self, path: Path, text: str) -> None:
        for _ in range(8):
            self.folder.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileNotFoundError):  # another process has cleared the store and its folder
                return _replace(path, text)
        return _replace(path, text)

    def stamp(self, kind: Kind, key: Mapping[str, Any]) -> tuple[str, int] | None:
        """Changes whenever the file for ``key`` does; ``None`` when there is none."""
        path = self._path(kind, key)
        try:
            return str(path), path.stat().st_mtime_ns
        except OSError:
            return None

    def refuse(self, kind: Kind, key: Mapping[str, Any], reason: str) -> None:
        """Warn, once, that what :meth:`get` gave for ``key`` is not what its reader can use."""
        path = self._path(kind, key)
        _warn(path, f"{path} {reason}; it counts as missing and will be replaced")

    def discard(self, kind: Kind, key: Mapping[str, Any]) -> None:
        """Forget what is remembered for ``key``, if anything is."""
        with contextlib.suppress(OSError):
            self._path(kind, key).unlink()

    def entries(self) -> list[Entry]:
        """What there is, the newest first; files that cannot be read are listed too."""
        return sorted(self._entries(), key=lambda entry: (-entry.written, entry.path.name))

    def clear(self, kind: Kind | None = None) -> list[Entry]:
        """Delete all entries, or those of one kind, and what an interrupted writer has left of them; other files stay.
        Returns what was deleted."""
        removed = []
        for entry in [*self.entries(), *self._left_over()]:
            if kind not in (None, entry.kind):
                continue
            with contextlib.suppress(FileNotFoundError):  # another process was faster
                entry.path.unlink()
                removed.append(entry)
        with contextlib.suppress(OSError):  # somebody else's files are in it
            self.folder.rmdir()
        return removed

    def _path(self, kind: Kind, key: Mapping[str, Any]) -> Path:
        text = json.dumps(_plain(key), sort_keys=True, allow_nan=False)
        return self.folder / f"{kind}-{hashlib.sha256(text.encode()).hexdigest()[:32]}.json"

    def _entries(self) -> Iterator[Entry]:
        for path, match, status in self._files(_NAME):
            try:
                found = _parse(_read(path))
            except (OSError, ValueError):
                found = ""
            key = None if isinstance(found, str) else found["key"]
            yield Entry(path, match.group(1), status.st_size, status.st_mtime, key)

    def _left_over(self) -> Iterator[Entry]:
        for path, match, status in self._files(_TEMPORARY):
            if time.time() - status.st_mtime > 60:  # younger ones may be about to be renamed
                yield Entry(path, match.group(1), status.st_size, status.st_mtime, None)

    def _files(self, names: re.Pattern[str]) -> Iterator[tuple[Path, re.Match[str], os.stat_result]]:
        try:
            paths = sorted(self.folder.iterdir())
        except OSError:
            return
        for path in paths:
            match = names.fullmatch(path.name)
            with contextlib.suppress(OSError):
                status = path.lstat()
                if match and not stat.S_ISDIR(status.st_mode):
                    yield path, match, status


def _read(path: Path) -> str:
    return read_whole(path, LARGEST).decode()


def _parse(text: str) -> dict[str, Any] | str:
    """An entry, or what is wrong with it."""
    try:
        found = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return "is damaged"
    if not isinstance(found, dict) or found.get("format") != _FORMAT:
        return "is not a file of tzwc"
    if found.get("schema") != SCHEMA:
        return f"has schema {found.get('schema')!r}, and this version of tzwc reads {SCHEMA}"
    if not isinstance(found.get("key"), dict) or "value" not in found:
        return "is damaged"
    return found


def _no_constant(text: str) -> float:
    raise ValueError(f"{text} is not a number")


def seconds_of(value: object) -> dict[str, float]:
    """A table of seconds by name, as it came out of a file.

    Raises:
        ValueError: it is something else, or holds a number that nobody can have measured.
    """
    if not isinstance(value, dict):
        raise ValueError("holds no table of seconds")
    for name, seconds in value.items():
        if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 1e-9 <= seconds < 1e9:
            raise ValueError(f"says that {name[:40]!r} takes {str(seconds)[:40]} seconds")
    return {name: float(seconds) for name, seconds in value.items()}


def _plain(key: Mapping[str, Any]) -> dict[str, Any]:
    """``key`` as it comes back from JSON: tuples are lists."""
    plain: dict[str, Any] = json.loads(json.dumps(key, allow_nan=False))
    return plain


def _replace(path: Path, text: str) -> None:
    handle, temporary = tempfile.mkstemp(prefix=f".{path.stem}.", suffix=".part", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(temporary).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(temporary).unlink()
        raise


def _warn(path: Path, message: str) -> None:
    """Warn, once for each path in this process."""
    with _lock:
        if str(path) in _said:
            return
        _said.add(str(path))
    warnings.warn(message, TuningWarning, stacklevel=4)
