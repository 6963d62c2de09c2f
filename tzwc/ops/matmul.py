"""The operator ``tzwc::product``: float32 matrix products on CPU by oneDNN.

PyTorch has no public function for it, but its library exports the one that it calls for bfloat16 and that takes float32
as well. The extension of :mod:`tzwc.native` calls that, once a trial has shown that it can: on processors without
AVX-512 the function may refuse float32. Where there is no extension (yet), no such function, or the trial fails, the
operator multiplies by ATen, with the same result up to rounding.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tzwc._torch.autocast import DisableAutocast
from tzwc.native.loader import disabled, extension
from tzwc.ops.derivatives import is_differentiated
from tzwc.util.modes import undisturbed

__all__ = ["available", "obstacle", "product"]

_LIBRARY = torch.library.Library("tzwc", "FRAGMENT")  # type: ignore[no-untyped-call]
_LIBRARY.define("product(Tensor a, Tensor b) -> Tensor", tags=(torch.Tag.pt2_compliant_tag,))  # type: ignore[no-untyped-call]

_ALONE = 1 << 16
"""Elements of a shared matrix from which on it is not copied for every matrix of the other operand."""

_native: Any = None  # the extension, once a trial of oneDNN has succeeded
_refused = ""  # why oneDNN cannot be called here, found out once for the process


def available(timeout: float = 0.0) -> bool:
    """Whether oneDNN can be called; waits for the extension being built, ``timeout`` seconds at most."""
    global _native, _refused
    if _native is None and not (_refused or disabled()) and extension.wait(timeout):
        _refused = _problem(extension.module)
        if not _refused:
            _native = extension.module
    return _native is not None


def obstacle() -> str:
    """Why oneDNN is not :func:`available`."""
    if disabled():
        return "TZWC_NATIVE=0"
    return _refused or extension.reason


def _problem(module: Any) -> str:
    """What keeps oneDNN from being called through ``module``; empty when a trial gave the products that ATen gives."""
    if not module.products_install():
        return "this build of torch does not export it"
    try:
        with undisturbed():
            # Sums of small integers, which every precision and every order of summation gives exactly.
            values = torch.arange(16 * 16, dtype=torch.float32, device="cpu").remainder_(7).sub_(3).view(16, 16)
            batch = values.view(2, 8, 16)
            for a, b in ((values, values), (values, values.mT), (batch, batch.mT), (batch.mT, batch)):
                result = _shape(a, b).fill_(torch.nan)
                module.products_multiply(a, b, result)
                if not torch.equal(result, _composed(a, b)):
                    return "a trial gave a wrong product"
    except Exception as error:  # it checks the processor itself, and whatever it says, ATen multiplies
        said = str(error).splitlines() or [""]
        return f"a trial failed ({type(error).__name__}: {said[0]})"
    return ""


def product(a: Tensor, b: Tensor) -> Tensor:
    """``a @ b`` for matrices: `(M, K)` or `(B, M, K)` times `(K, N)` or `(B, K, N)`, float32 on CPU.

    An operand without a batch is shared by all matrices of the other. No size may be zero. Where it is differentiated,
    ATen multiplies. The operator itself has no derivatives and refuses: it is put into graphs whose derivatives have
    been taken already, and to ask for more than that would cost every product some microseconds.

    Returns:
        `(M, N)` or `(B, M, N)`, contiguous.
    """
    if is_differentiated(a, b):
        return _composed(a, b)
    result: Tensor = torch.ops.tzwc.product(a, b)
    return result


def _shape(a: Tensor, b: Tensor) -> Tensor:
    batch = b.shape[:-2] if a.dim() == 2 else a.shape[:-2]
    return a.new_empty((*batch, a.shape[-2], b.shape[-1]))


def _multiply(a: Tensor, b: Tensor) -> Tensor:
    if is_differentiated(a, b):
        raise NotImplementedError("tzwc::product has no derivatives: call product() around it, or torch.matmul")
    if not available():
        return _composed(a, b)
    result = _shape(a, b)
    if a.dim() == b.dim():
        _native.products_multiply(a, b, result)
    elif b.dim() == 2:
        if a.is_contiguous():  # the rows of all matrices are the rows of one
            _native.products_multiply(a.view(-1, a.shape[-1]), b, result.view(-1, b.shape[-1]))
        else:
            _one_by_one(a.unbind(), [b] * len(a), result)
    elif a.numel() < _ALONE:
        _native.products_multiply(a.expand(len(b), -1, -1), b, result)
    else:
        _one_by_one([a] * len(b), b.unbind(), result)
    return result


def _composed(a: Tensor, b: Tensor) -> Tensor:
    """By operators that PyTorch can differentiate."""
    with DisableAutocast():  # which the operator does not know, so that its results stay float32
        return torch.matmul(a, b)


def _one_by_one(a: Any, b: Any, results: Tensor) -> None:
    for first, second, result in zip(a, b, results.unbind(), strict=True):
        _native.products_multiply(first, second, result)


_LIBRARY.impl("product", _multiply, "CPU")  # type: ignore[no-untyped-call]
torch.library.register_fake("tzwc::product", _shape, lib=_LIBRARY)
