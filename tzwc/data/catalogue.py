"""Data sets by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from tzwc.data.binary import cifar10, cifar100, stl10
from tzwc.data.dataset import Dataset
from tzwc.data.files import DataError
from tzwc.data.idx import mnist
from tzwc.data.offline import digits, mnist1d
from tzwc.models.validation import closest, refuse
from tzwc.util.argument_checks import exact, examined
from tzwc.util.paths import as_path

__all__ = ["NAMES", "PERMUTED", "load"]

_OFFLINE: Mapping[str, Callable[[], Dataset]] = {
    "digits": digits,
    "sdigits": lambda: digits().as_sequences("sdigits"),
    "pdigits": lambda: digits().as_sequences("pdigits", permuted=True),
    "mnist1d": mnist1d,
}

_FILES: Mapping[str, Callable[[Path, bool], Dataset]] = {
    "mnist": lambda path, _: mnist(path),
    "smnist": lambda path, _: mnist(path).as_sequences("smnist"),
    "pmnist": lambda path, _: mnist(path).as_sequences("pmnist", permuted=True),
    "cifar10": lambda path, partial: cifar10(path, partial=partial),
    "scifar10": lambda path, partial: cifar10(path, partial=partial).as_sequences("scifar10"),
    "cifar100": lambda path, partial: cifar100(path, partial=partial),
    "stl10": lambda path, partial: stl10(path, partial=partial),
}

NAMES: Final = (*_OFFLINE, *_FILES)
"""The names that :func:`load` knows."""

PERMUTED: Final = frozenset({"pdigits", "pmnist"})
"""Those whose pixels have been permuted, by :func:`~tzwc.data.dataset.permutation`."""


@examined("name")
def load(name: str, directory: str | Path | None = None, *, partial: bool = False) -> Dataset:
    """The data set of that name.

    ========= ================================= ====================================
    name      samples                           from
    ========= ================================= ====================================
    digits    1,797 images ``(1 8 8)``          scikit-learn
    sdigits   the same, sequences ``(1 64)``    scikit-learn
    pdigits   the same, pixels permuted         scikit-learn
    mnist1d   5,000 sequences ``(1 40)``        the package mnist1d, procedural
    mnist     70,000 images ``(1 28 28)``       four IDX files, gzipped or not
    smnist    the same, sequences ``(1 784)``   as mnist
    pmnist    the same, pixels permuted         as mnist
    cifar10   60,000 images ``(3 32 32)``       the binary version
    scifar10  the same, sequences ``(3 1024)``  as cifar10
    cifar100  60,000 images ``(3 32 32)``       the binary version
    stl10     13,000 images ``(3 96 96)``       the binary version
    ========= ================================= ====================================

    Args:
        name: of the table.
        directory: the folder with the files; not needed by the first four.
        partial: accept CIFAR and STL-10 files that hold only some of the samples.

    Raises:
        InvalidArgumentError: unknown name, or no path.
        DataError: a package or a file is missing, or a file is wrong.
    """
    name = exact(name)
    if not isinstance(name, str) or name not in NAMES:
        raise refuse("data", name, closest(name, NAMES))
    if name in _OFFLINE:
        return _OFFLINE[name]()
    if directory is None:
        raise DataError(f"{name}: its files are not part of tzwc; name the folder that holds them with --data DIR")
    return _FILES[name](as_path(directory), bool(partial))
