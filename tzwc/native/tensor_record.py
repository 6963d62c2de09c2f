"""What is recorded of one tensor, and how its bytes are read."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tzwc._torch.dispatch import DisableTorchFunctionSubclass, disabled_torch_dispatch
from tzwc._torch.functorch import is_transformed
from tzwc._torch.tensors import is_functional_tensor, is_zero_tensor

__all__ = [
    "describe_other",
    "is_plain",
    "is_wrapper",
    "layout_of",
    "other_storage",
    "pointer_of",
    "raw_view",
    "version_of",
]

PLAIN_TYPES = (Tensor, torch.nn.Parameter)

_INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
# Kinds of tensors that have no strides, no storage or no version raise one of these when they are asked for them.
_UNREADABLE = (RuntimeError, NotImplementedError, AttributeError, TypeError, ValueError)


def is_plain(tensor: Tensor) -> bool:
    """Whether the tensor is what parameters usually are: strided, with memory of its own, and of no subclass."""
    return (
        type(tensor) in PLAIN_TYPES
        and tensor.layout is torch.strided
        and tensor.device.type != "meta"
        and not tensor.is_quantized
        and not tensor.is_nested
        and not is_wrapper(tensor)
        and _ask(lambda: tensor.data_ptr()) is not None
    )


def is_wrapper(tensor: Tensor) -> bool:
    """Whether the tensor has strides, but stands for others or for nothing instead of having memory."""
    return bool(is_zero_tensor(tensor) or is_transformed(tensor) or is_functional_tensor(tensor))


def layout_of(tensor: Tensor) -> tuple[object, ...]:
    """All that a compiled program assumes of a plain tensor, apart from its contents."""
    return (
        tensor.shape,
        tensor.stride(),
        tensor.layout,
        tensor.dtype,
        tensor.device,
        tensor.requires_grad,
        # These two change every value without touching a byte or a version.
        tensor.is_conj(),
        tensor.is_neg(),
    )


def version_of(tensor: Tensor) -> int:
    """The version counter; −1 for inference tensors, which have none."""
    try:
        return -1 if tensor.is_inference() else tensor._version
    except RuntimeError:  # an inference tensor that was given ordinary data
        return -1


def pointer_of(tensor: Tensor) -> int:
    """The address of the first element; 0 for tensors without elements."""
    return tensor.data_ptr()


def describe_other(tensor: Tensor, content: bool) -> tuple[object, ...]:
    """As much as can be recorded of a tensor that is not plain: a subclass, fake, meta, sparse, quantised, wrapped.

    What such a tensor cannot tell is recorded as None. Sizes and strides are recorded as text: comparing symbolic ones
    would install guards in somebody else's trace.
    """
    with DisableTorchFunctionSubclass():
        layout = (
            type(tensor),
            _ask(lambda: tensor.layout),
            _ask(lambda: str(tensor.shape)),
            _ask(lambda: str(tensor.stride())),
            _ask(lambda: tensor.dtype),
            _ask(lambda: tensor.device),
            _ask(lambda: tensor.requires_grad),
        )
        if not content:
            return layout
        pointer = _ask(lambda: tensor.data_ptr()) if _has_memory(tensor) else None
        return (*layout, _ask(lambda: version_of(tensor)), pointer)


def other_storage(tensor: Tensor) -> torch.UntypedStorage | None:
    """The storage of a tensor that is not plain, where it has one."""
    with DisableTorchFunctionSubclass():
        return _ask(lambda: tensor.untyped_storage()) if _has_memory(tensor) else None


def raw_view(tensor: Tensor) -> Tensor | None:
    """The bits of a plain CPU tensor as integers, sharing its memory; None where its storage has been cut short.

    Made from the storage, so that autograd, inference mode and lazy conjugation have no say in it.
    """
    storage, size = tensor.untyped_storage(), tensor.element_size()
    offset, shape, stride = tensor.storage_offset(), tuple(tensor.shape), tensor.stride()
    if tensor.numel() == 0:
        return torch.empty(0, dtype=torch.uint8, device="cpu")
    # set_ would lengthen a storage that is too short.
    if (offset + 1 + sum((n - 1) * s for n, s in zip(shape, stride, strict=True))) * size > storage.nbytes():
        return None
    if size == 16:  # complex128: no integer is as wide
        offset, shape, stride, size = 2 * offset, (*shape, 2), (*(2 * s for s in stride), 1), 8
    return torch.empty(0, dtype=_INTEGERS[size], device="cpu").set_(storage, offset, shape, stride)


def _has_memory(tensor: Tensor) -> bool:
    # Fake tensors and wrappers answer for memory that is not theirs, with a warning or worse.
    return getattr(type(tensor), "__torch_dispatch__", disabled_torch_dispatch) is disabled_torch_dispatch


def _ask(question: Any) -> Any:
    try:
        return question()
    except _UNREADABLE:
        return None
