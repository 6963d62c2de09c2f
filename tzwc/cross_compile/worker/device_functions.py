"""CUDA's mathematical functions for Triton's interpreter, which knows none of them, computed by PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

__all__ = ["DeviceFunctions"]

_OTHER_NAMES: dict[str, Callable[..., torch.Tensor]] = {
    "fabs": torch.abs,
    "finitef": torch.isfinite,
    "isfinited": torch.isfinite,
    "isinfd": torch.isinf,
    "isnand": torch.isnan,
    "llrint": lambda x: torch.round(x).long(),
    "mul_rn": torch.mul,
    "nearbyint": torch.round,
    "rint": torch.round,
    "tgamma": lambda x: torch.exp(torch.lgamma(x)),
}


class DeviceFunctions:
    """Stands in for ``libdevice``: its functions by name, for values of the interpreter.

    float16 values do not occur: Inductor computes in float32.
    """

    def __getattr__(self, name: str) -> Callable[..., Any]:
        function = _OTHER_NAMES.get(name) or getattr(torch, name, None) or getattr(torch.special, name, None)
        if function is None:
            raise AttributeError(f"libdevice.{name} has no counterpart for the interpreter: add it to {__file__}")
        return lambda *operands: _apply(function, operands)


def _apply(function: Callable[..., torch.Tensor], operands: tuple[Any, ...]) -> Any:
    import triton.language as tl
    from triton.runtime.interpreter import TensorHandle

    shaped = next(operand for operand in operands if isinstance(operand, tl.tensor))
    tensors = []
    for operand in operands:
        data = operand.handle.data if isinstance(operand, tl.tensor) else getattr(operand, "value", operand)
        tensors.append(torch.as_tensor(data))
    result = function(*tensors)
    scalar = {torch.bool: tl.int1, torch.int32: tl.int32, torch.int64: tl.int64, torch.float64: tl.float64}.get(
        result.dtype, tl.float32
    )
    kind = tl.block_type(scalar, list(shaped.shape)) if shaped.type.is_block() else scalar
    return tl.tensor(TensorHandle(result.numpy(), scalar), kind)
