"""Matrix products of the CIFAR-10 model by ATen's library and by oneDNN, forward and backward.

``python benchmarks/products.py [--threads N] [--batch B]``
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import torch

from tzwc.autotune import Store
from tzwc.autotune.matmul_choice import ATEN, ONEDNN, Operand, choose
from tzwc.ops.matmul import available

POINTS = 32 * 32
MAPS = ((36, 36), (72, 72), (144, 144), (372, 72), (756, 144), (1548, 288))
"""Channels in and out of 1×1 convolutions."""


def cases(batch: int) -> dict[str, tuple[Operand, Operand]]:
    """Both sides of every product, by what it is."""
    found = {}
    for inner, outer in MAPS:
        weight = Operand((batch, outer, inner), (0, inner, 1))
        transposed = Operand((batch, inner, outer), (0, 1, inner))
        x, y = (Operand((batch, n, POINTS), (n * POINTS, POINTS, 1)) for n in (inner, outer))
        columns = Operand((batch, POINTS, inner), (inner * POINTS, 1, POINTS))
        found[f"{inner} → {outer}"] = weight, x
        found[f"{inner} → {outer}, ∂x"] = transposed, y
        found[f"{inner} → {outer}, ∂W"] = y, columns
    for channels in (36, 72, 144):
        square = Operand((batch * channels, 32, 32), (POINTS, 32, 1))
        found[f"dot-product form, {channels} channels"] = square, square
    return found


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--batch", type=int, default=16)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if not available(timeout=300):
        raise SystemExit("oneDNN cannot be called here: no C++ compiler, or another build of torch")
    print(f"batch {options.batch}, {options.threads} threads, GFLOP/s\n{'':40}{ATEN:>8}{ONEDNN:>8}   gain")
    with tempfile.TemporaryDirectory() as folder:
        for name, (a, b) in cases(options.batch).items():
            seconds = choose(a, b, store=Store(Path(folder)))
            operations = 2 * a.shape[0] * a.shape[1] * a.shape[2] * b.shape[2]
            speeds = [operations / seconds[library] * 1e-9 for library in (ATEN, ONEDNN)]
            print(f"{name:40}{speeds[0]:8.0f}{speeds[1]:8.0f}{speeds[1] / speeds[0]:7.2f}")


if __name__ == "__main__":
    main()
