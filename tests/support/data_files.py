"""Small data files of every kind."""

from __future__ import annotations

import functools
import io
import struct

import numpy as np

from tzwc.models import terminator_spec

SPEC = terminator_spec("digits")


def idx(*sizes: int) -> bytes:
    """An IDX file of as many axes."""
    content = bytes(i % 10 for i in range(int(np.prod(sizes))))
    return struct.pack(f">HBB{len(sizes)}I", 0, 8, len(sizes), *sizes) + content


@functools.cache
def npy(dtype: str = "u1", shape: tuple[int, ...] = (8, 8)) -> bytes:
    """An array of ones in a ``.npy`` file."""
    file = io.BytesIO()
    np.save(file, np.ones(shape, np.dtype(dtype)), allow_pickle=True)
    return file.getvalue()


def archive() -> bytes:
    """An ``.npz`` file, which numpy.load opens whatever its name."""
    file = io.BytesIO()
    np.savez(file, a=np.ones((8, 8)))
    return file.getvalue()


def image(kind: str) -> bytes:
    """A small picture."""
    from PIL import Image

    file = io.BytesIO()
    Image.new("RGB", (8, 8), (1, 2, 3)).save(file, kind)
    return file.getvalue()
