"""Pictures of what slow networks write."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

__all__ = ["draw_kernels"]


def draw_kernels(kernels: Sequence[Tensor], path: Path, channels: int = 8) -> None:
    """Draw the first channels of each block's global hyper-kernel, one row a block, into a PNG file.

    Args:
        kernels: for each block ``(1 channels height width)``, as ``model.global_kernels()`` gives them.
        path: of the file to write.
        channels: how many channels of each block to draw at most.
    """
    from matplotlib.figure import Figure  # not needed by anything but this, and slow to import

    columns = min(channels, max(kernel.shape[1] for kernel in kernels))
    figure = Figure(figsize=(1.2 * columns, 1.35 * len(kernels)), layout="constrained")
    figure.suptitle("global hyper-kernels, first channels of each block")
    cells = figure.subplots(len(kernels), columns, squeeze=False)
    for row, (block, kernel) in enumerate(zip(cells, kernels, strict=True)):
        for column, cell in enumerate(block):
            cell.set_axis_off()
            if column < kernel.shape[1]:
                cell.imshow(kernel[0, column].detach().cpu().numpy(), cmap="RdBu")
                cell.set_title(f"block {row}" if column == 0 else f"{column}", fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
