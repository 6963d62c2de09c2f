"""What one convolution computes, apart from the numbers: sizes, padding, direction, dtype, device.

"Convolution" means correlation, as in ``torch.nn.functional``, unless ``flip`` says otherwise. With taps ``w``, input
``x`` of length ``S``, padding ``(l, r)``, stride ``s`` and dilation ``d``, along each axis::

    y[t] = Σ_j w[j] · x[s·t + d·j - l],        0 ≤ t < (S + l + r - d·(K - 1) - 1) // s + 1

where ``x`` outside of its range is zero, or is ``x`` continued periodically (``padding_mode="circular"``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import torch

from tzwc.errors import InvalidArgumentError

__all__ = ["DIRECTIONS", "Direction", "PaddingMode", "Problem"]

PaddingMode = Literal["zeros", "circular"]
Direction = Literal["forward", "input_gradient", "weight_gradient"]

DIRECTIONS: tuple[Direction, ...] = get_args(Direction)
"""The result of a convolution, and its gradients for input and kernel."""


@dataclass(frozen=True)
class Problem:
    """One convolution, with one to three spatial axes.

    Attributes:
        batch: samples. In a graph with an open batch size, the size seen at capture.
        in_channels, out_channels, groups: as in ``torch.nn.Conv1d``.
        lengths: input sizes of the spatial axes.
        kernel: taps along each axis.
        padding: elements before and after each axis; negative ones crop.
        padding_mode: what the padding holds.
        stride, dilation: steps along each axis of the input, from output to output and from tap to tap.
        flip: the taps run backwards: convolution in the mathematical sense.
        per_sample: one kernel for each sample and channel, `(B, C, *K)`; ``groups`` and ``out_channels`` are then
            ``in_channels``. Otherwise the kernel is `(O, C / groups, *K)`.
        static_kernel: the kernel does not depend on the input, so what is computed from it alone is free.
        channels_last: the input lies in memory with its channels innermost.
        dtype: of input and kernel.
        device: type of the device, such as ``"cpu"``.
        direction: which result is wanted; sizes and names above are those of the forward convolution in any case.

    Raises:
        InvalidArgumentError: on construction, for sizes that no convolution has.
    """

    batch: int
    in_channels: int
    out_channels: int
    groups: int
    lengths: tuple[int, ...]
    kernel: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    padding_mode: PaddingMode = "zeros"
    stride: tuple[int, ...] = ()
    dilation: tuple[int, ...] = ()
    flip: bool = False
    per_sample: bool = False
    static_kernel: bool = False
    channels_last: bool = False
    dtype: torch.dtype = torch.float32
    device: str = "cpu"
    direction: Direction = "forward"

    def __post_init__(self) -> None:
        axes = len(self.kernel)
        if not 1 <= axes <= 3:
            raise InvalidArgumentError(f"kernel={self.kernel} must have one to three axes")
        object.__setattr__(self, "stride", self.stride or (1,) * axes)
        object.__setattr__(self, "dilation", self.dilation or (1,) * axes)
        for name in ("lengths", "padding", "stride", "dilation"):
            if len(getattr(self, name)) != axes:
                raise InvalidArgumentError(f"{name}={getattr(self, name)} must have {axes} entries, as kernel has")
        for name in ("kernel", "stride", "dilation"):
            if min(getattr(self, name)) < 1:
                raise InvalidArgumentError(f"{name}={getattr(self, name)} must be positive")
        if self.groups < 1 or self.in_channels % self.groups or self.out_channels % self.groups:
            raise InvalidArgumentError(
                f"groups={self.groups} must divide in_channels={self.in_channels} and out_channels={self.out_channels}"
            )
        if self.per_sample and not self.is_depthwise:
            raise InvalidArgumentError("per_sample=True needs groups and out_channels equal to in_channels")
        if self.padding_mode not in get_args(PaddingMode):
            raise InvalidArgumentError(f"padding_mode={self.padding_mode!r} is not one of {get_args(PaddingMode)}")
        if min(self.out) < 1:
            raise InvalidArgumentError(
                f"kernel={self.kernel} with dilation={self.dilation} is longer than lengths={self.lengths} "
                f"with padding={self.padding}"
            )

    @property
    def axes(self) -> int:
        """Spatial axes."""
        return len(self.kernel)

    @property
    def fan_in(self) -> int:
        """Channels summed for each output channel."""
        return self.in_channels // self.groups

    @property
    def is_depthwise(self) -> bool:
        """One filter for each channel."""
        return self.groups == self.in_channels == self.out_channels

    @property
    def reach(self) -> tuple[int, ...]:
        """Elements from a kernel's first tap to its last, both counted, along each axis."""
        return tuple(d * (k - 1) + 1 for d, k in zip(self.dilation, self.kernel, strict=True))

    @property
    def out(self) -> tuple[int, ...]:
        """Output sizes of the spatial axes."""
        axes = zip(self.lengths, self.reach, self.padding, self.stride, strict=True)
        return tuple((s + before + after - reach) // step + 1 for s, reach, (before, after), step in axes)

    @property
    def flops(self) -> float:
        """Floating-point operations of the direct method: two for each tap of each output element."""
        filters = self.batch * self.out_channels * self.fan_in
        return 2.0 * filters * math.prod(self.kernel) * math.prod(self.out)

    def with_(self, **changes: object) -> Problem:
        """A copy with some attributes changed."""
        return replace(self, **changes)  # type: ignore[arg-type]

    def keywords(self) -> dict[str, Any]:
        """What :func:`tzwc.ops.convolution` is told besides tensors and algorithms, without what is usual."""
        found: dict[str, Any] = {"padding": self.padding}
        if self.padding_mode != "zeros":
            found["padding_mode"] = self.padding_mode
        if max(self.stride) > 1:
            found["stride"] = self.stride
        if max(self.dilation) > 1:
            found["dilation"] = self.dilation
        if self.per_sample:
            found["per_sample"] = True
        elif self.groups != 1:
            found["groups"] = self.groups
        if self.flip:
            found["flip"] = True
        return found
