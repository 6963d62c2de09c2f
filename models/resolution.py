"""A trained model on another grid: its hyper-kernels are functions of coordinates.

With a grid ``r`` times as fine, sums over the grid have ``r`` times as many terms an axis, so the global operator is
divided by that number (:attr:`~tzwc.models.spec.TerminatorSpec.spacing`); a local kernel of ``k`` taps gets
``(k − 1) r + 1`` (the nearest odd number), so that it reaches as far; and the learned maps ``p`` are interpolated.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from torch import Tensor
from torch.nn import functional as F

from tzwc.errors import SpecError
from tzwc.models.spec import Resample, TerminatorSpec
from tzwc.util.argument_checks import examined

__all__ = ["resample", "resampled_spec", "resampled_state"]


def resample(values: Tensor, sizes: tuple[int, ...]) -> Tensor:
    """``values`` ``(b c …)`` on a grid of other sizes, by linear interpolation; first and last points stay in place."""
    if tuple(values.shape[2:]) == sizes:
        return values
    return F.interpolate(values, size=sizes, mode="bilinear" if len(sizes) == 2 else "linear", align_corners=True)


@examined("sizes or kernels", SpecError)
def resampled_spec(spec: TerminatorSpec, sizes: Sequence[int], kernels: Resample) -> TerminatorSpec:
    """The declaration of the same model on a grid of ``sizes``.

    Raises:
        SpecError: ``sizes`` or ``kernels`` cannot be used.
    """
    trained = spec.sizes if spec.trained_sizes is None else spec.trained_sizes
    return dataclasses.replace(
        spec, sizes=tuple(sizes) if isinstance(sizes, Sequence) else sizes, trained_sizes=trained, resample=kernels
    )


def resampled_state(trained: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """``trained`` in the shapes of ``target``: learned maps ``(1 1 …)`` are interpolated, all else has its shape."""
    return {name: resample(value, tuple(target[name].shape[2:])) for name, value in trained.items()}
