"""``python -m tzwc._torch``: which private names this PyTorch lacks, or has changed; exit code 1 if there are any."""

from __future__ import annotations

import sys

import torch

from tzwc._torch.self_test import faults


def main() -> int:
    """Print the faults, one a line, and return the exit code."""
    found = faults()
    for fault in found:
        print(fault)
    print(f"PyTorch {torch.__version__}: {f'{len(found)} private names differ' if found else 'all private names fit'}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
