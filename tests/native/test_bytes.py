"""Comparison of bytes, for every way in which a tensor can lie in memory."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.support.watch_twins import Twin

FORMS: dict[str, Callable[[Tensor], Tensor]] = {
    "contiguous": lambda t: t,
    "transposed": lambda t: t.transpose(0, 2),
    "stepped": lambda t: t[::2, :, 1::2],
    "inner run": lambda t: t[:, 1:3],
    "row": lambda t: t[1, :, 2],
    "scalar": lambda t: t[1, 1, 1],
    "expanded": lambda t: t[0, 0, :1].expand(5, 3),
    "overlapping": lambda t: t.as_strided((4, 3), (1, 1)),
    "empty": lambda t: t[:0],
    "one element": lambda t: t[:1, :1, :1],
}
DTYPES = [
    *(torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.complex64, torch.complex128),
    *(torch.complex32, torch.bool, torch.uint8, torch.int8, torch.int16, torch.int64, torch.float8_e5m2),
]


@pytest.mark.filterwarnings("ignore:ComplexHalf:UserWarning")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("form", FORMS)
def test_every_bit_of_every_element_is_compared_and_no_other(twin: Twin, form: str, dtype: torch.dtype) -> None:
    size = torch.empty((), dtype=dtype).element_size()
    memory = torch.zeros(3 * 4 * 6 * size, dtype=torch.uint8)
    base = memory.view(dtype).view(3, 4, 6)
    tensor = FORMS[form](base)
    inside = {
        tensor.storage_offset() + sum(i * s for i, s in zip(index, tensor.stride(), strict=True))
        for index in np.ndindex(*tensor.shape)
    }
    watch = twin.tensors([tensor], compare_bytes=True)
    raw = memory.numpy()  # writes through numpy move no version counter
    for element in range(0, base.numel(), 1 if size < 4 else 5):
        byte = element * size + element % size
        raw[byte] ^= 1 << element % 8
        assert watch.changed([tensor]) == ([0] if element in inside else [])
        raw[byte] ^= 1 << element % 8
    assert watch.changed([tensor]) == []


def test_nan_equals_itself(twin: Twin) -> None:
    t = torch.full((4,), float("nan"))
    assert twin.tensors([t], compare_bytes=True).changed([t]) == []
