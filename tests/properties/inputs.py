"""Tensors as callers have them: any dtype, layout, stride and size, with values at the ends of the range."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from hypothesis import strategies as st
from torch import Tensor

__all__ = ["Input", "inputs"]

LAYOUTS = ("contiguous", "transposed", "every other", "expanded", "last", "offset", "part")
VALUES = ("normal", "zeros", "tiny", "huge", "denormal", "nan", "inf", "mixed", "negative zero")


@dataclass(frozen=True)
class Input:
    """How the tensors of a call are made.

    Attributes:
        batch: their first size.
        layout: one of ``LAYOUTS``.
        values: one of ``VALUES``.
        dtype: of the module and of the tensors.
    """

    batch: int
    layout: str
    values: str
    dtype: torch.dtype

    @property
    def finite(self) -> bool:
        """Whether all elements are numbers."""
        return self.values not in ("nan", "inf", "mixed")

    def make(self, plain: Tensor) -> Tensor:
        """A tensor of the shape of ``plain``, normally distributed, in this layout and with these values."""
        return self._laid_out(self._valued(plain).to(self.dtype))

    def _valued(self, plain: Tensor) -> Tensor:
        info = torch.finfo(self.dtype)
        if self.values in ("tiny", "huge", "denormal"):
            # A few products of these neither vanish nor overflow, or do so in eager as well.
            scale = {"tiny": info.tiny**0.25, "huge": info.max**0.1, "denormal": info.smallest_normal / 8}
            return plain * scale[self.values]
        if self.values in ("zeros", "negative zero"):
            return plain * (0.0 if self.values == "zeros" else -0.0)
        special = {"nan": [float("nan")], "inf": [float("inf")], "mixed": [float("nan"), float("inf"), -float("inf")]}
        flat = plain.flatten().clone()
        for position, value in enumerate(special.get(self.values, [])[: flat.numel()]):
            flat[position * 7 % flat.numel()] = value
        return flat.reshape(plain.shape)

    def _laid_out(self, tensor: Tensor) -> Tensor:
        if self.layout == "transposed":
            return tensor.transpose(0, -1).contiguous().transpose(0, -1)
        if self.layout == "every other":
            return torch.stack([tensor, -tensor], -1).flatten(-2)[..., ::2]
        if self.layout == "expanded":
            return tensor[:1].expand_as(tensor)
        if self.layout == "last" and tensor.dim() == 4:
            return tensor.to(memory_format=torch.channels_last)
        if self.layout == "offset":
            return torch.cat([tensor.new_zeros(3), tensor.flatten()])[3:].reshape(tensor.shape)
        if self.layout == "part":
            return torch.cat([tensor, tensor], 1)[:, : tensor.shape[1]]
        return tensor


def inputs() -> st.SearchStrategy[Input]:
    """The inputs of one call."""
    return st.builds(
        Input,
        batch=st.sampled_from([3, 1, 0, 2, 5]),
        layout=st.sampled_from(LAYOUTS),
        values=st.sampled_from(VALUES),
        dtype=st.sampled_from([torch.float64, torch.float32, torch.bfloat16, torch.float16]),
    )
