"""Constant tensors of a graph as JSON-safe data, and back."""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Mapping
from typing import Any

import torch

from tzwc._torch.fake_tensors import FakeTensor
from tzwc.errors import InvalidArgumentError

__all__ = ["STORED_BYTES", "decode_tensor", "encode_tensor"]

STORED_BYTES = 1 << 16
"""Constants up to this size are written out; of larger ones, the type only, and a reader has to supply them."""


def encode_tensor(tensor: torch.Tensor) -> dict[str, Any]:
    """Dtype, shape, device and, for small tensors, the bytes in native order as base64."""
    plain = tensor.layout == torch.strided and not isinstance(tensor, FakeTensor) and not tensor.is_quantized
    small = plain and tensor.device.type != "meta" and tensor.numel() * tensor.element_size() <= STORED_BYTES
    data = None
    if small:
        flat = tensor.detach().cpu().resolve_conj().resolve_neg().contiguous().reshape(-1).view(torch.uint8)
        data = base64.b64encode(bytes(flat.tolist())).decode("ascii")
    return {
        "dtype": str(tensor.dtype).removeprefix("torch."),
        "shape": [size if isinstance(size, int) else str(size) for size in tensor.shape],
        "device": str(tensor.device),
        "data": data,
    }


def decode_tensor(name: str, data: Mapping[str, Any], given: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """The tensor that :func:`encode_tensor` wrote, or the one that the caller supplies under ``name``.

    Raises:
        InvalidArgumentError: the data do not fit their declared type, or are missing from the file and from ``given``.
    """
    if name in given:
        return given[name]
    if data.get("data") is None:
        raise InvalidArgumentError(
            f"constant {name!r} ({data.get('dtype')} {data.get('shape')}) is not stored with the graph: "
            f"pass constants={{{name!r}: tensor}}"
        )
    dtype = getattr(torch, str(data.get("dtype")), None)
    shape: list[int] = data.get("shape", [])
    if not isinstance(dtype, torch.dtype) or not all(type(size) is int and size >= 0 for size in shape):
        raise InvalidArgumentError(f"constant {name!r} has dtype {data.get('dtype')!r} and shape {shape!r}")
    try:
        content = base64.b64decode(data["data"], validate=True)
        if len(content) != math.prod(shape) * dtype.itemsize:
            raise ValueError(f"{len(content)} bytes")
        if not content:
            return torch.empty(shape, dtype=dtype, device=data.get("device"))
        return torch.frombuffer(bytearray(content), dtype=dtype).reshape(shape).to(data.get("device"))
    except (binascii.Error, ValueError, TypeError, RuntimeError) as error:
        raise InvalidArgumentError(f"constant {name!r} does not hold a {dtype}{shape}: {error}") from error
