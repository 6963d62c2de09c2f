"""Data to train on: what comes with packages, and what a user has in files of the standard formats."""

from __future__ import annotations

from tzwc.data.catalogue import NAMES, load
from tzwc.data.dataset import Dataset, Normalisation, Split
from tzwc.data.files import DataError

__all__ = ["NAMES", "DataError", "Dataset", "Normalisation", "Split", "load"]
