"""Data to train on: what comes with packages, and what a user has in files of the standard formats."""

from __future__ import annotations

from tzwc.data.catalogue import NAMES, PERMUTED, load
from tzwc.data.dataset import Dataset, Normalisation, Split, permutation
from tzwc.data.files import DataError

__all__ = ["NAMES", "PERMUTED", "DataError", "Dataset", "Normalisation", "Split", "load", "permutation"]
