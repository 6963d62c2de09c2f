"""One run at a time in a folder: two would overwrite each other's checkpoints."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tzwc.training.checkpoint import CheckpointError
from tzwc.util.paths import why_not

try:
    import fcntl
except ImportError:  # Windows: nothing is locked there
    fcntl = None  # type: ignore[assignment]

__all__ = ["alone", "written"]


@contextmanager
def alone(folder: Path | None) -> Iterator[None]:
    """Keep other runs out of ``folder`` inside the block, and clear away what a killed one has left half written.

    The lock is the system's, on the folder itself: it ends with the process, however that ends. Where the file system
    knows no locks, nothing is kept out.

    Raises:
        CheckpointError: another run is in the folder.
    """
    if folder is None or fcntl is None:
        yield
        return
    held = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                raise CheckpointError(
                    f"{folder}: another run writes there; wait for it, or take another folder"
                ) from None
        else:
            for left in (*folder.glob(".last.safetensors.*"), *folder.glob(".log.csv.*")):
                left.unlink(missing_ok=True)
        yield
    finally:
        os.close(held)


@contextmanager
def written(folder: Path) -> Iterator[None]:
    """What is written to ``folder`` inside the block; files are replaced whole, so those from before are kept.

    Raises:
        CheckpointError: the system refuses, for want of space for example.
    """
    try:
        yield
    except OSError as error:
        raise CheckpointError(
            f"{folder}: cannot be written to ({why_not(error)}); what was there before is unchanged"
        ) from error
